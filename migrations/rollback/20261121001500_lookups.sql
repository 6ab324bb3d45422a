CREATE OR REPLACE FUNCTION llm_ledger_sum(
    in_project text, in_scope text, in_scope_id text, in_window text, in_start date
) RETURNS numeric
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(sum(c.cost_usd), 0)
    FROM cost_tracking c
    WHERE c.project = in_project
      AND CASE in_scope
            WHEN 'project' THEN true
            WHEN 'user' THEN c.user_id = in_scope_id
            WHEN 'task' THEN c.task = in_scope_id
            WHEN 'model' THEN c.requested_model = in_scope_id
            WHEN 'run' THEN c.run_id::text = in_scope_id
            WHEN 'job' THEN c.job_id = in_scope_id
            WHEN 'tag' THEN c.tags @> ARRAY[in_scope_id]
          END
      AND (in_window = 'total' OR (c.accounted_on >= in_start AND c.accounted_on <
            CASE in_window WHEN 'day' THEN in_start + 1 ELSE (in_start + interval '1 month')::date END))
$$;

CREATE OR REPLACE FUNCTION llm_clean_up() RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    DELETE FROM llm_holds WHERE hold_id IN (
        SELECT h.hold_id FROM llm_holds h
        WHERE h.state <> 'held' AND h.expires_at < clock_timestamp() - interval '1 day'
        ORDER BY h.expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    DELETE FROM llm_leases WHERE lease_id IN (
        SELECT l.lease_id FROM llm_leases l
        WHERE l.left_nano = 0 AND l.expires_at < clock_timestamp() - interval '1 day'
        ORDER BY l.expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
$$;

CREATE OR REPLACE FUNCTION llm_save_messages(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    owner uuid := llm_conversation_user(payload ->> 'user_id');
    answer jsonb;
BEGIN
    INSERT INTO conversations (user_id, project, message_id, role, content, page, metadata)
    SELECT owner, payload ->> 'project', (item ->> 'message_id')::uuid, item ->> 'role',
           item ->> 'content', item ->> 'page', nullif(item -> 'metadata', 'null')
    FROM jsonb_array_elements(payload -> 'messages') WITH ORDINALITY AS given (item, position)
    ORDER BY position
    ON CONFLICT (message_id) DO NOTHING;

    SELECT jsonb_build_object('messages', coalesce(jsonb_agg(jsonb_build_object(
        'message_id', saved.message_id, 'seq', saved.seq, 'timestamp', saved.timestamp)
        ORDER BY saved.seq), '[]'))
    INTO answer
    FROM conversations AS saved
    WHERE saved.user_id = owner AND saved.message_id IN (
        SELECT (item ->> 'message_id')::uuid
        FROM jsonb_array_elements(payload -> 'messages') AS item);
    RETURN answer;
END
$$;

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
