-- Durable runs: one row per unit of work, one per step; finished steps are never paid for twice.
-- A fence, checked under the run's row lock, keeps a worker that was given up for dead from
-- writing over its successor. Money is never fenced.

-- payload: {run_id, project, pipeline, unit_key, input_hash, job_id, options, owner, take_over,
--           stale_after_s, columns: {bill_id, jurisdiction, research_model, generate_model, review_model}}
-- answer: {run_id, status, fence, resumed, analysis_json, review_json}, or {busy: true, run_id, owner, stale}
-- `take_over` names the dead owner that the caller replaces; `stale` tells that its lease has run out.
CREATE OR REPLACE FUNCTION llm_run_start(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    run pipeline_runs;
    is_new boolean;
    is_stale boolean;
BEGIN
    INSERT INTO pipeline_runs (id, project, pipeline, unit_key, input_hash, job_id, options, owner, status,
                               bill_id, jurisdiction, research_model, generate_model, review_model)
    VALUES ((payload->>'run_id')::uuid, payload->>'project', payload->>'pipeline', payload->>'unit_key',
            payload->>'input_hash', payload->>'job_id', payload->'options', payload->>'owner', 'running',
            payload->'columns'->>'bill_id', payload->'columns'->>'jurisdiction',
            payload->'columns'->>'research_model', payload->'columns'->>'generate_model',
            payload->'columns'->>'review_model')
    ON CONFLICT (project, pipeline, unit_key, input_hash) DO NOTHING;
    is_new := FOUND;
    SELECT * INTO run FROM pipeline_runs r
    WHERE r.project = payload->>'project' AND r.pipeline = payload->>'pipeline'
      AND r.unit_key = payload->>'unit_key' AND r.input_hash = payload->>'input_hash'
    FOR UPDATE;
    is_stale := run.updated_at < clock_timestamp() - make_interval(secs => (payload->>'stale_after_s')::float8);
    IF NOT is_new AND run.id <> (payload->>'run_id')::uuid AND run.status = 'running'
       AND run.owner IS DISTINCT FROM payload->>'take_over' THEN
        RETURN jsonb_build_object('busy', true, 'run_id', run.id, 'owner', run.owner, 'stale', is_stale);
    END IF;
    IF run.status <> 'completed' THEN
        UPDATE pipeline_runs r
        SET status = 'running', owner = payload->>'owner', fence = r.fence + 1, error_class = NULL,
            error_message = NULL, job_id = coalesce(payload->>'job_id', r.job_id), completed_at = NULL,
            updated_at = clock_timestamp()
        WHERE r.id = run.id RETURNING * INTO run;
    END IF;
    RETURN jsonb_build_object('run_id', run.id, 'status', run.status, 'fence', run.fence,
        'resumed', NOT is_new, 'analysis_json', run.analysis_json, 'review_json', run.review_json);
END
$$;

-- Locks a run and tells whether the caller still owns it.
CREATE OR REPLACE FUNCTION llm_run_holds(in_run uuid, in_fence bigint) RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    held boolean;
BEGIN
    UPDATE pipeline_runs r SET updated_at = clock_timestamp()
    WHERE r.id = in_run AND r.fence = in_fence RETURNING true INTO held;
    RETURN coalesce(held, false);
END
$$;

-- A step's output, from its row or, over 64 kB, from the content-addressed table.
CREATE OR REPLACE FUNCTION llm_step_output(step pipeline_steps) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(step.output, (SELECT b.content FROM llm_blobs b WHERE b.hash = step.output_hash))
$$;

CREATE OR REPLACE FUNCTION llm_is_recent(moment timestamptz, max_age_s text) RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path FROM CURRENT
AS $$
    SELECT max_age_s IS NULL OR moment > clock_timestamp() - make_interval(secs => max_age_s::float8)
$$;

-- The finished step that answers a request: of the run that is replayed, whatever its input was,
-- else the latest with the same input. A fresh step is looked up in its own run only, so that an
-- interrupted run does not pay for it again.
CREATE OR REPLACE FUNCTION llm_find_step(payload jsonb, in_run pipeline_runs) RETURNS pipeline_steps
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT s.* FROM pipeline_steps s
    WHERE s.id = coalesce(
        (SELECT o.id FROM pipeline_steps o
         WHERE NOT (payload->>'fresh')::boolean AND o.run_id = (payload->>'from_run')::uuid
           AND o.step = payload->>'step' AND o.key = payload->>'key' AND o.state = 'done'
           AND llm_is_recent(o.finished_at, payload->>'max_age_s')),
        (SELECT o.id FROM pipeline_steps o
         WHERE o.project = in_run.project AND o.step = payload->>'step' AND o.key = payload->>'key'
           AND o.input_hash = payload->>'input_hash' AND o.version = (payload->>'version')::int
           AND o.state = 'done' AND (o.run_id = in_run.id OR NOT (payload->>'fresh')::boolean)
           AND llm_is_recent(o.finished_at, payload->>'max_age_s')
         ORDER BY o.finished_at DESC LIMIT 1))
$$;

-- payload: {run_id, fence, step, key, input_hash, version, owner, model, max_age_s, fresh, from_run}
-- answer: {found: true, output}, {found: false, attempt}, or {fenced: true}
CREATE OR REPLACE FUNCTION llm_step_begin(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    run pipeline_runs;
    old pipeline_steps;
    attempt_no int;
BEGIN
    IF NOT llm_run_holds((payload->>'run_id')::uuid, (payload->>'fence')::bigint) THEN
        RETURN jsonb_build_object('fenced', true);
    END IF;
    SELECT * INTO run FROM pipeline_runs r WHERE r.id = (payload->>'run_id')::uuid;
    old := llm_find_step(payload, run);
    INSERT INTO pipeline_steps AS s (run_id, project, step, key, input_hash, version, model, owner, fence,
                                     state, attempt, started_at, finished_at, output, output_hash)
    VALUES (run.id, run.project, payload->>'step', payload->>'key', payload->>'input_hash',
            (payload->>'version')::int, payload->>'model', payload->>'owner', (payload->>'fence')::bigint,
            CASE WHEN old.id IS NULL THEN 'intent' ELSE 'done' END, 1, clock_timestamp(),
            old.finished_at, old.output, old.output_hash)
    ON CONFLICT (run_id, step, key) DO UPDATE SET
        input_hash = excluded.input_hash, version = excluded.version, model = excluded.model,
        owner = excluded.owner, fence = excluded.fence, state = excluded.state,
        attempt = CASE WHEN old.id IS NULL THEN s.attempt + 1 ELSE s.attempt END,
        started_at = CASE WHEN old.id IS NULL THEN excluded.started_at ELSE s.started_at END,
        finished_at = excluded.finished_at, output = excluded.output, output_hash = excluded.output_hash,
        error_class = NULL
    RETURNING s.attempt INTO attempt_no;
    IF old.id IS NOT NULL THEN
        RETURN jsonb_build_object('found', true, 'output', llm_step_output(old));
    END IF;
    RETURN jsonb_build_object('found', false, 'attempt', attempt_no);
END
$$;

-- payload: {run_id, fence, step, key, state, output, output_hash, error_class}
-- answer: {output} as it is stored, or {fenced: true}. With an `output_hash` the output goes to llm_blobs.
CREATE OR REPLACE FUNCTION llm_step_finish(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    step pipeline_steps;
    large boolean := payload->>'output_hash' IS NOT NULL;
BEGIN
    IF NOT llm_run_holds((payload->>'run_id')::uuid, (payload->>'fence')::bigint) THEN
        RETURN jsonb_build_object('fenced', true);
    END IF;
    IF large THEN
        INSERT INTO llm_blobs (hash, content) VALUES (payload->>'output_hash', payload->'output')
        ON CONFLICT (hash) DO NOTHING;
    END IF;
    UPDATE pipeline_steps s
    SET state = payload->>'state', finished_at = clock_timestamp(), error_class = payload->>'error_class',
        output = CASE WHEN large THEN NULL ELSE payload->'output' END, output_hash = payload->>'output_hash'
    WHERE s.run_id = (payload->>'run_id')::uuid AND s.step = payload->>'step' AND s.key = payload->>'key'
      AND s.state <> 'done'
    RETURNING * INTO step;
    IF NOT FOUND THEN
        SELECT * INTO step FROM pipeline_steps s
        WHERE s.run_id = (payload->>'run_id')::uuid AND s.step = payload->>'step' AND s.key = payload->>'key';
    END IF;
    RETURN jsonb_build_object('output', llm_step_output(step));
END
$$;

-- payload: {run_id, fence, status, analysis_json, review_json, review_passed, quality_score, confidence,
--           error_class, error_message}
-- answer: {status}, or {fenced: true}
CREATE OR REPLACE FUNCTION llm_run_finish(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT llm_run_holds((payload->>'run_id')::uuid, (payload->>'fence')::bigint) THEN
        RETURN jsonb_build_object('fenced', true);
    END IF;
    UPDATE pipeline_runs r SET
        status = payload->>'status',
        completed_at = CASE WHEN payload->>'status' = 'paused' THEN NULL ELSE clock_timestamp() END,
        analysis_json = coalesce(payload->'analysis_json', r.analysis_json),
        review_json = coalesce(payload->'review_json', r.review_json),
        review_passed = coalesce((payload->>'review_passed')::boolean, r.review_passed),
        quality_score = coalesce((payload->>'quality_score')::numeric, r.quality_score),
        confidence = coalesce((payload->>'confidence')::numeric, r.confidence),
        error_class = payload->>'error_class', error_message = payload->>'error_message'
    WHERE r.id = (payload->>'run_id')::uuid;
    RETURN jsonb_build_object('status', payload->>'status');
END
$$;

-- payload: {job_id, project, pipeline, options, budget_usd, status}; calling again updates the status.
-- answer: {job_id, status}
CREATE OR REPLACE FUNCTION llm_job_record(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO pipeline_jobs (id, project, pipeline, status, options, budget_usd)
    VALUES (payload->>'job_id', payload->>'project', payload->>'pipeline', payload->>'status',
            payload->'options', (payload->>'budget_usd')::numeric)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, options = excluded.options,
        budget_usd = excluded.budget_usd;
    RETURN jsonb_build_object('job_id', payload->>'job_id', 'status', payload->>'status');
END
$$;

-- payload: {project, run_id, job_id, pipeline, unit_key, input_hash, limit}; what is null does not narrow.
-- answer: {runs: [row of pipeline_runs with cost_usd, unpriced, attempts and its steps]}, newest first
CREATE OR REPLACE FUNCTION llm_runs(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('runs', coalesce(jsonb_agg(
        to_jsonb(r) || jsonb_build_object(
            'cost_usd', (SELECT trim_scale(coalesce(sum(c.cost_usd), 0))::text FROM cost_tracking c WHERE c.run_id = r.id),
            'unpriced', (SELECT count(*) FROM cost_tracking c WHERE c.run_id = r.id AND c.cost_usd IS NULL),
            'attempts', (SELECT count(*) FROM cost_tracking c WHERE c.run_id = r.id),
            'steps', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'step', s.step, 'key', s.key, 'state', s.state, 'model', s.model, 'attempt', s.attempt,
                'started_at', s.started_at, 'finished_at', s.finished_at, 'error_class', s.error_class)
                ORDER BY s.started_at), '[]') FROM pipeline_steps s WHERE s.run_id = r.id))
        ORDER BY r.started_at DESC), '[]'))
    FROM (
        SELECT * FROM pipeline_runs p
        WHERE p.project = payload->>'project'
          AND (payload->>'run_id' IS NULL OR p.id::text LIKE (payload->>'run_id') || '%')
          AND (payload->>'job_id' IS NULL OR p.job_id = payload->>'job_id')
          AND (payload->>'pipeline' IS NULL OR p.pipeline = payload->>'pipeline')
          AND (payload->>'unit_key' IS NULL OR p.unit_key = payload->>'unit_key')
          AND (payload->>'input_hash' IS NULL OR p.input_hash = payload->>'input_hash')
        ORDER BY p.started_at DESC LIMIT coalesce((payload->>'limit')::int, 50)
    ) r
$$;

-- payload: {project, job_id}
-- answer: {rows: [{key (a step), total_cost, calls, tokens, unpriced}]}: all that a job has cost, ever
CREATE OR REPLACE FUNCTION llm_job_costs(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('rows', coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.key), '[]'))
    FROM (
        SELECT coalesce(c.step, '') AS key, trim_scale(coalesce(sum(c.cost_usd), 0))::text AS total_cost,
               count(*) AS calls, coalesce(sum(c.tokens_used), 0) AS tokens,
               count(*) FILTER (WHERE c.cost_usd IS NULL) AS unpriced
        FROM cost_tracking c
        WHERE c.project = payload->>'project' AND c.job_id = payload->>'job_id'
        GROUP BY 1
    ) s
$$;

SELECT llm_lock_down(
    ARRAY[]::text[],
    ARRAY['llm_run_start', 'llm_run_holds', 'llm_step_output', 'llm_is_recent', 'llm_find_step', 'llm_step_begin',
          'llm_step_finish', 'llm_run_finish', 'llm_job_record', 'llm_runs', 'llm_job_costs']);
