-- Review queues: values that no evidence settles, until a person says what to make of them.

CREATE TABLE IF NOT EXISTS llm_reviews (
    id          uuid PRIMARY KEY,
    project     text NOT NULL,
    job_id      text NOT NULL,
    run_id      uuid NOT NULL REFERENCES pipeline_runs (id) ON DELETE CASCADE,
    unit_key    text NOT NULL,
    field       text NOT NULL,
    value       jsonb,
    details     jsonb NOT NULL,
    reason      text,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'accepted', 'corrected', 'rejected')),
    decided     jsonb,
    decided_by  text,
    note        text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at  timestamptz,
    place       bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX IF NOT EXISTS llm_reviews_of_job ON llm_reviews (project, job_id, state, place);
CREATE INDEX IF NOT EXISTS llm_reviews_of_run ON llm_reviews (run_id);

-- What a run has found that wants a look; what it no longer wants looked at goes, unless it was decided.
-- payload: {project, job_id, run_id, unit_key, items: [{id, field, value, details, reason}]}
-- answer: {open}
CREATE OR REPLACE FUNCTION llm_reviews_put(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    run uuid := payload->>'run_id';
BEGIN
    DELETE FROM llm_reviews r
    WHERE r.run_id = run AND r.project = payload->>'project' AND r.state = 'open'
      AND r.id NOT IN (SELECT (one->>'id')::uuid FROM jsonb_array_elements(payload->'items') AS one);
    INSERT INTO llm_reviews AS r (id, project, job_id, run_id, unit_key, field, value, details, reason)
    SELECT i.id, payload->>'project', payload->>'job_id', run, payload->>'unit_key', i.field, i.value, i.details, i.reason
    FROM jsonb_to_recordset(payload->'items') AS i(id uuid, field text, value jsonb, details jsonb, reason text)
    ON CONFLICT (id) DO UPDATE SET value = excluded.value, details = excluded.details, reason = excluded.reason
    WHERE r.state = 'open';
    RETURN jsonb_build_object('open', (SELECT count(*) FROM llm_reviews r WHERE r.run_id = run AND r.state = 'open'));
END
$$;

-- payload: {project, job_id, state, run_ids: [run_id] or null, after, limit}; what is null does not narrow.
-- answer: {reviews: [row of llm_reviews]}, in the order in which they came
CREATE OR REPLACE FUNCTION llm_reviews_list(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_custom_plan'
AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('reviews', coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.place), '[]')) FROM (
        SELECT * FROM llm_reviews q
        WHERE q.project = payload->>'project' AND q.place > coalesce((payload->>'after')::bigint, 0)
          AND (payload->>'job_id' IS NULL OR q.job_id = payload->>'job_id')
          AND (payload->>'state' IS NULL OR q.state = payload->>'state')
          AND (jsonb_typeof(payload->'run_ids') IS DISTINCT FROM 'array'
               OR q.run_id IN (SELECT one::uuid FROM jsonb_array_elements_text(payload->'run_ids') AS one))
        ORDER BY q.place LIMIT coalesce((payload->>'limit')::int, 100)) AS r);
END
$$;

-- payload: {project, id}
-- answer: row of llm_reviews, or null
CREATE OR REPLACE FUNCTION llm_review_find(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT to_jsonb(r) FROM llm_reviews r WHERE r.id = (payload->>'id')::uuid AND r.project = payload->>'project'
$$;

-- payload: {project, id, state: accepted | corrected | rejected, decided, by, note}; the same decision again gets
-- the same answer.
-- answer: {review: row of llm_reviews}, {refused: row of llm_reviews} if it was decided otherwise, or {absent: true}
CREATE OR REPLACE FUNCTION llm_review_decide(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    review llm_reviews;
    decision jsonb;
BEGIN
    SELECT * INTO review FROM llm_reviews r
    WHERE r.id = (payload->>'id')::uuid AND r.project = payload->>'project' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('absent', true);
    END IF;
    decision := CASE payload->>'state' WHEN 'accepted' THEN review.value WHEN 'corrected' THEN payload->'decided' END;
    IF review.state <> 'open' THEN
        RETURN jsonb_build_object(
            CASE WHEN review.state = payload->>'state' AND review.decided IS NOT DISTINCT FROM decision
                 THEN 'review' ELSE 'refused' END, to_jsonb(review));
    END IF;
    UPDATE llm_reviews r
    SET state = payload->>'state', decided = decision, decided_by = payload->>'by', note = payload->>'note',
        decided_at = clock_timestamp()
    WHERE r.id = review.id RETURNING * INTO review;
    RETURN jsonb_build_object('review', to_jsonb(review));
END
$$;

SELECT llm_lock_down(ARRAY['llm_reviews'], ARRAY['llm_reviews_put', 'llm_reviews_list', 'llm_review_find', 'llm_review_decide']);

NOTIFY pgrst, 'reload schema';
