DROP FUNCTION IF EXISTS llm_search_tidy(jsonb);
DROP FUNCTION IF EXISTS llm_search_report(jsonb);
DROP FUNCTION IF EXISTS llm_search_count(jsonb);
DROP FUNCTION IF EXISTS llm_search_add(jsonb);
DROP FUNCTION IF EXISTS llm_search_read(jsonb);
DROP TABLE IF EXISTS llm_search_batches;
DROP TABLE IF EXISTS llm_search_counts;
SELECT llm_drop_indexes(ARRAY['idx_web_search_used']);
SELECT llm_drop_columns('web_search_cache', ARRAY[
    'class', 'stale_until', 'error_until', 'refresh_after', 'cost_usd', 'results_json']);

-- payload: {cache_key, project, query, engine, params, owner, lease_s, take_over}
-- answer: {state: 'hit', results, cached_at} | {state: 'yours'} | {state: 'wait', lease_owner, lease_until}
-- `take_over` names a dead owner whose lease the caller replaces.
CREATE OR REPLACE FUNCTION llm_search_claim(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    entry web_search_cache;
    now_at timestamptz;
BEGIN
    INSERT INTO web_search_cache (cache_key, project, query, engine, params, state)
    VALUES (payload->>'cache_key', payload->>'project', payload->>'query', payload->>'engine',
            payload->'params', 'leased')
    ON CONFLICT (cache_key) DO NOTHING;
    SELECT * INTO entry FROM web_search_cache c WHERE c.cache_key = payload->>'cache_key' FOR UPDATE;
    now_at := clock_timestamp();
    IF entry.results IS NOT NULL AND entry.expires_at > now_at THEN
        UPDATE web_search_cache c SET hit_count = coalesce(c.hit_count, 0) + 1, last_hit_at = now_at
        WHERE c.cache_key = entry.cache_key;
        RETURN jsonb_build_object('state', 'hit', 'results', entry.results, 'cached_at', entry.cached_at);
    END IF;
    IF entry.lease_until > now_at AND entry.lease_owner <> payload->>'owner'
       AND entry.lease_owner IS DISTINCT FROM payload->>'take_over' THEN
        RETURN jsonb_build_object('state', 'wait', 'lease_owner', entry.lease_owner,
                                  'lease_until', entry.lease_until);
    END IF;
    UPDATE web_search_cache c
    SET state = 'leased', lease_owner = payload->>'owner',
        lease_until = now_at + make_interval(secs => (payload->>'lease_s')::float8)
    WHERE c.cache_key = entry.cache_key;
    RETURN jsonb_build_object('state', 'yours');
END
$$;

-- payload: {cache_key, owner, results, ttl_s}
-- answer: {stored}; false when another owner's lease has replaced the caller's.
CREATE OR REPLACE FUNCTION llm_search_fill(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE web_search_cache c
    SET results = payload->'results', result_count = jsonb_array_length(payload->'results'),
        cached_at = clock_timestamp(), state = 'ready', lease_owner = NULL, lease_until = NULL,
        expires_at = clock_timestamp() + make_interval(secs => (payload->>'ttl_s')::float8)
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('stored', FOUND);
END
$$;

-- payload: {cache_key, owner}. Gives a lease back after a failed search; a failure is never an answer.
-- answer: {released}
CREATE OR REPLACE FUNCTION llm_search_release(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE web_search_cache c
    SET lease_owner = NULL, lease_until = NULL,
        state = CASE WHEN c.results IS NULL THEN 'empty' ELSE 'ready' END
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('released', FOUND);
END
$$;

-- payload: {project, memory_hits: {cache_key: number}}. Adds hits that memory answered, then counts.
-- answer: {cache_hits, paid, entries}
CREATE OR REPLACE FUNCTION llm_search_stats(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    -- In one order: two processes that count the same keys must not wait for each other.
    PERFORM FROM web_search_cache c
    WHERE c.cache_key IN (SELECT jsonb_object_keys(coalesce(payload->'memory_hits', '{}')))
    ORDER BY c.cache_key FOR UPDATE;
    UPDATE web_search_cache c
    SET hit_count = coalesce(c.hit_count, 0) + h.value::int, last_hit_at = clock_timestamp()
    FROM jsonb_each_text(coalesce(payload->'memory_hits', '{}')) h
    WHERE c.cache_key = h.key;
    RETURN jsonb_build_object(
        'cache_hits', (SELECT coalesce(sum(c.hit_count), 0) FROM web_search_cache c
                       WHERE c.project = payload->>'project'),
        'entries', (SELECT count(*) FROM web_search_cache c
                    WHERE c.project = payload->>'project' AND c.results IS NOT NULL),
        'paid', (SELECT count(*) FROM cost_tracking t
                 WHERE t.project = payload->>'project' AND t.kind = 'search' AND t.status = 'ok'));
END
$$;

CREATE OR REPLACE FUNCTION cleanup_search_cache() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM web_search_cache
    WHERE coalesce(expires_at, cached_at + interval '24 hours') < clock_timestamp()
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
$$;

NOTIFY pgrst, 'reload schema';
