-- The response cache: a model's answer to the very same question, for callers who ask for it. A lease
-- row is the single flight. Failures are never kept; the question is kept as a hash only.

CREATE TABLE IF NOT EXISTS llm_response_cache (
    cache_key   text PRIMARY KEY,
    project     text NOT NULL,
    model       text NOT NULL,
    results     jsonb,
    cached_at   timestamptz,
    expires_at  timestamptz,
    hit_count   integer NOT NULL DEFAULT 0,
    last_hit_at timestamptz,
    lease_owner text,
    lease_until timestamptz
);
CREATE INDEX IF NOT EXISTS llm_response_cache_expires ON llm_response_cache (expires_at);
CREATE INDEX IF NOT EXISTS llm_response_cache_project ON llm_response_cache (project);

-- payload: {cache_key, project, model, owner, lease_s, take_over}
-- answer: {state: 'hit', results, cached_at} | {state: 'yours'} | {state: 'wait', lease_owner, lease_until}
-- `take_over` names a dead owner whose lease the caller replaces.
CREATE OR REPLACE FUNCTION llm_response_claim(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    entry llm_response_cache;
    now_at timestamptz;
BEGIN
    INSERT INTO llm_response_cache (cache_key, project, model)
    VALUES (payload->>'cache_key', payload->>'project', payload->>'model')
    ON CONFLICT (cache_key) DO NOTHING;
    SELECT * INTO entry FROM llm_response_cache c WHERE c.cache_key = payload->>'cache_key' FOR UPDATE;
    now_at := clock_timestamp();
    IF entry.results IS NOT NULL AND entry.expires_at > now_at THEN
        UPDATE llm_response_cache c SET hit_count = c.hit_count + 1, last_hit_at = now_at
        WHERE c.cache_key = entry.cache_key;
        RETURN jsonb_build_object('state', 'hit', 'results', entry.results, 'cached_at', entry.cached_at);
    END IF;
    IF entry.lease_until > now_at AND entry.lease_owner <> payload->>'owner'
       AND entry.lease_owner IS DISTINCT FROM payload->>'take_over' THEN
        RETURN jsonb_build_object('state', 'wait', 'lease_owner', entry.lease_owner,
                                  'lease_until', entry.lease_until);
    END IF;
    UPDATE llm_response_cache c
    SET lease_owner = payload->>'owner',
        lease_until = now_at + make_interval(secs => (payload->>'lease_s')::float8)
    WHERE c.cache_key = entry.cache_key;
    RETURN jsonb_build_object('state', 'yours');
END
$$;

-- payload: {cache_key, owner, results, ttl_s}
-- answer: {stored}; false when another owner's lease has replaced the caller's.
CREATE OR REPLACE FUNCTION llm_response_fill(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE llm_response_cache c
    SET results = payload->'results', cached_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL,
        expires_at = clock_timestamp() + make_interval(secs => (payload->>'ttl_s')::float8)
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('stored', FOUND);
END
$$;

-- payload: {cache_key, owner}. Gives a lease back when there is no answer to keep.
-- answer: {released}
CREATE OR REPLACE FUNCTION llm_response_release(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    DELETE FROM llm_response_cache c
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('released', FOUND);
END
$$;

-- payload: {project, memory_hits: {cache_key: number}}. Adds hits that a process answered by itself, then counts.
-- answer: {cache_hits, entries}
CREATE OR REPLACE FUNCTION llm_response_stats(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    -- In one order: two processes that count the same keys must not wait for each other.
    PERFORM FROM llm_response_cache c
    WHERE c.cache_key IN (SELECT jsonb_object_keys(coalesce(payload->'memory_hits', '{}')))
    ORDER BY c.cache_key FOR UPDATE;
    UPDATE llm_response_cache c
    SET hit_count = c.hit_count + h.value::int, last_hit_at = clock_timestamp()
    FROM jsonb_each_text(coalesce(payload->'memory_hits', '{}')) h
    WHERE c.cache_key = h.key;
    RETURN (SELECT jsonb_build_object('cache_hits', coalesce(sum(c.hit_count), 0),
                                      'entries', count(c.results))
            FROM llm_response_cache c WHERE c.project = payload->>'project');
END
$$;

-- Deletes answers that have expired; for a cron job, as cleanup_search_cache().
CREATE OR REPLACE FUNCTION cleanup_response_cache() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM llm_response_cache c
    WHERE coalesce(c.expires_at < clock_timestamp(), true)
      AND (c.lease_until IS NULL OR c.lease_until < clock_timestamp())
$$;

SELECT llm_lock_down(
    ARRAY['llm_response_cache'],
    ARRAY['llm_response_claim', 'llm_response_fill', 'llm_response_release', 'llm_response_stats',
          'cleanup_response_cache']);

NOTIFY pgrst, 'reload schema';
