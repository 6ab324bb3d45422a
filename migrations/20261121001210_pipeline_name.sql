-- The hosts compare their old pipeline with the new one by an expression that they name `pipeline`, and
-- GROUP BY takes a column of that name for it. So the name of a run's pipeline moves out of the way.
DO $$
DECLARE
    ours boolean := EXISTS (
        SELECT FROM llm_objects WHERE kind = 'column' AND name = 'pipeline_runs.pipeline' AND NOT adopted);
    renamed boolean := EXISTS (
        SELECT FROM llm_objects WHERE kind = 'column' AND name = 'pipeline_runs.pipeline_name');
BEGIN
    IF ours AND renamed THEN
        -- The first migration ran once more and added it again.
        PERFORM llm_drop_columns('pipeline_runs', ARRAY['pipeline']);
    ELSIF ours THEN
        ALTER TABLE pipeline_runs RENAME COLUMN pipeline TO pipeline_name;
        UPDATE llm_objects SET name = 'pipeline_runs.pipeline_name'
        WHERE kind = 'column' AND name = 'pipeline_runs.pipeline';
    ELSIF NOT renamed THEN
        -- A host that has a column of that name itself keeps it.
        PERFORM llm_add_column('pipeline_runs', 'pipeline_name', 'text');
        UPDATE pipeline_runs SET pipeline_name = pipeline;
        PERFORM llm_drop_indexes(ARRAY['idx_pipeline_runs_unit']);
        PERFORM llm_add_index('idx_pipeline_runs_unit',
                              'pipeline_runs (project, pipeline_name, unit_key, input_hash)', true);
    END IF;
END
$$;

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
    INSERT INTO pipeline_runs (id, project, pipeline_name, unit_key, input_hash, job_id, options, owner, status,
                               bill_id, jurisdiction, research_model, generate_model, review_model)
    VALUES ((payload->>'run_id')::uuid, payload->>'project', payload->>'pipeline', payload->>'unit_key',
            payload->>'input_hash', payload->>'job_id', payload->'options', payload->>'owner', 'running',
            payload->'columns'->>'bill_id', payload->'columns'->>'jurisdiction',
            payload->'columns'->>'research_model', payload->'columns'->>'generate_model',
            payload->'columns'->>'review_model')
    ON CONFLICT (project, pipeline_name, unit_key, input_hash) DO NOTHING;
    is_new := FOUND;
    SELECT * INTO run FROM pipeline_runs r
    WHERE r.project = payload->>'project' AND r.pipeline_name = payload->>'pipeline'
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

-- payload: {project, run_id, job_id, pipeline, unit_key, input_hash, limit}; what is null does not narrow.
-- answer: {runs: [row of pipeline_runs with cost_usd, unpriced, attempts and its steps]}, newest first
CREATE OR REPLACE FUNCTION llm_runs(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('runs', coalesce(jsonb_agg(
        to_jsonb(r) - 'pipeline_name' || jsonb_build_object(
            'pipeline', r.pipeline_name,
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
          AND (payload->>'pipeline' IS NULL OR p.pipeline_name = payload->>'pipeline')
          AND (payload->>'unit_key' IS NULL OR p.unit_key = payload->>'unit_key')
          AND (payload->>'input_hash' IS NULL OR p.input_hash = payload->>'input_hash')
        ORDER BY p.started_at DESC LIMIT coalesce((payload->>'limit')::int, 50)
    ) r
$$;

NOTIFY pgrst, 'reload schema';
