-- The search cache with windows: an answer is fresh, then stale but served while one refresh runs, then
-- kept for when the engine fails. A hit is one read; hits are counted in batches; the number of entries
-- is bounded.
--
-- Libraries of the schema before call the functions without the new keys of a payload: they get what
-- they know.

SELECT llm_add_column('web_search_cache', 'class', 'text');
SELECT llm_add_column('web_search_cache', 'stale_until', 'timestamptz');
SELECT llm_add_column('web_search_cache', 'error_until', 'timestamptz');
SELECT llm_add_column('web_search_cache', 'refresh_after', 'timestamptz');
SELECT llm_add_column('web_search_cache', 'cost_usd', 'numeric(20, 12)');
-- The results as a hit sends them: written out when they are stored, because writing out jsonb takes
-- longer than all the rest of a hit, and not compressed, because reading that does too.
SELECT llm_add_column('web_search_cache', 'results_json',
                      'json GENERATED ALWAYS AS (results::text::json) STORED');
ALTER TABLE web_search_cache ALTER COLUMN results_json SET STORAGE EXTERNAL;
-- For the bound: how many entries a project has, and which of them was not asked for the longest.
SELECT llm_add_index('idx_web_search_used', 'web_search_cache (project, (coalesce(last_hit_at, cached_at)))', false);

-- How searches of a day were answered without a search. Every answer counts in one column only.
CREATE TABLE IF NOT EXISTS llm_search_counts (
    project   text NOT NULL,
    class     text NOT NULL,
    day       date NOT NULL,
    fresh     bigint NOT NULL DEFAULT 0,
    stale     bigint NOT NULL DEFAULT 0,
    coalesced bigint NOT NULL DEFAULT 0,
    negative  bigint NOT NULL DEFAULT 0,
    saved_usd numeric(20, 12) NOT NULL DEFAULT 0,
    unpriced  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project, class, day)
);

-- Batches of counts that have arrived, so that one that is sent twice counts once.
CREATE TABLE IF NOT EXISTS llm_search_batches (
    batch_id   uuid PRIMARY KEY,
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What was counted in the entries so far.
INSERT INTO llm_search_counts (project, class, day, fresh)
SELECT c.project, 'reference', (clock_timestamp() AT TIME ZONE 'UTC')::date, sum(c.hit_count)
FROM web_search_cache c
WHERE c.project IS NOT NULL AND NOT EXISTS (SELECT FROM llm_search_counts o WHERE o.project = c.project)
GROUP BY c.project HAVING sum(c.hit_count) > 0
ON CONFLICT DO NOTHING;

-- What an entry is worth now. Writes nothing, so that a hit costs one read; what is fresh comes first and
-- in a statement of its own, because every hit waits for it.
-- payload: {cache_key, covering}. `covering`: the engine has just failed.
-- answer: {state: 'hit', results, cost_usd, refresh, fresh_s} | {state: 'stale', results, cost_usd, refresh}
--         | {state: 'none'}
CREATE OR REPLACE FUNCTION llm_search_read(payload jsonb) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    answer json;
BEGIN
    SELECT json_build_object('state', 'hit', 'results', c.results_json, 'cost_usd', c.cost_usd::text,
                             'refresh', false, 'fresh_s', extract(epoch FROM c.expires_at - now_at))
    INTO answer
    FROM web_search_cache c
    WHERE c.cache_key = payload->>'cache_key' AND c.results IS NOT NULL AND c.expires_at > now_at;
    IF FOUND THEN
        RETURN answer;
    END IF;
    SELECT json_build_object(
        'state', 'stale', 'results', c.results_json, 'cost_usd', c.cost_usd::text,
        'refresh', NOT (coalesce(c.refresh_after > now_at, false) OR coalesce(c.lease_until > now_at, false)))
    INTO answer
    FROM web_search_cache c
    WHERE c.cache_key = payload->>'cache_key' AND c.results IS NOT NULL
      -- After a failure the engine is left alone for a while; until then the old answer serves.
      AND (c.stale_until > now_at
           OR c.error_until > now_at AND (c.refresh_after > now_at OR (payload->>'covering')::boolean));
    RETURN coalesce(answer, '{"state": "none"}');
END
$$;

-- payload: {cache_key, project, query, engine, params, class, owner, lease_s, take_over, refresh}
-- answer: as llm_search_read | {state: 'yours'} | {state: 'wait', lease_owner, lease_until}
-- `take_over` names a dead owner whose lease the caller replaces. `refresh`: the caller has an answer and
-- wants the lease or nothing, and gets {state: 'done'} when there is nothing to do.
CREATE OR REPLACE FUNCTION llm_search_claim(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    entry web_search_cache;
    now_at timestamptz;
    answer json;
    counts boolean := payload->>'class' IS NULL;
    is_refresh boolean := coalesce((payload->>'refresh')::boolean, false);
BEGIN
    INSERT INTO web_search_cache (cache_key, project, query, engine, params, state, class)
    VALUES (payload->>'cache_key', payload->>'project', payload->>'query', payload->>'engine',
            payload->'params', 'leased', payload->>'class')
    ON CONFLICT (cache_key) DO NOTHING;
    SELECT * INTO entry FROM web_search_cache c WHERE c.cache_key = payload->>'cache_key' FOR UPDATE;
    now_at := clock_timestamp();
    answer := llm_search_read(jsonb_build_object('cache_key', entry.cache_key));
    IF is_refresh THEN
        IF answer->>'state' = 'hit' OR entry.refresh_after > now_at THEN
            RETURN '{"state": "done"}';
        END IF;
    ELSIF answer->>'state' = 'hit' AND counts THEN
        -- A library of the schema before counts its hits here.
        UPDATE web_search_cache c SET hit_count = coalesce(c.hit_count, 0) + 1, last_hit_at = now_at
        WHERE c.cache_key = entry.cache_key;
        PERFORM llm_search_add(jsonb_build_array(jsonb_build_object(
            'project', entry.project, 'class', coalesce(entry.class, 'reference'), 'fresh', 1,
            'cost_usd', entry.cost_usd)));
        RETURN jsonb_build_object('state', 'hit', 'results', entry.results, 'cached_at', entry.cached_at);
    ELSIF answer->>'state' <> 'none' AND NOT counts THEN
        RETURN answer::jsonb;
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

-- payload: {cache_key, owner, results, ttl_s, stale_s, error_s, class, cost_usd}; the windows after the
-- first begin where it ends.
-- answer: {stored}; false when another owner's lease has replaced the caller's.
CREATE OR REPLACE FUNCTION llm_search_fill(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    fresh_until timestamptz := now_at + make_interval(secs => (payload->>'ttl_s')::float8);
BEGIN
    UPDATE web_search_cache c
    SET results = payload->'results', result_count = jsonb_array_length(payload->'results'),
        cached_at = now_at, state = 'ready', lease_owner = NULL, lease_until = NULL,
        expires_at = fresh_until, refresh_after = NULL,
        stale_until = fresh_until + make_interval(secs => (payload->>'stale_s')::float8),
        error_until = fresh_until + make_interval(secs => (payload->>'error_s')::float8),
        class = payload->>'class', cost_usd = (payload->>'cost_usd')::numeric
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('stored', FOUND);
END
$$;

-- payload: {cache_key, owner, rest_s}. Gives a lease back after a failed search; a failure is never an
-- answer. `rest_s`: for so long an old answer serves before the engine is asked again.
-- answer: {released}
CREATE OR REPLACE FUNCTION llm_search_release(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE web_search_cache c
    SET lease_owner = NULL, lease_until = NULL,
        refresh_after = clock_timestamp() + make_interval(secs => (payload->>'rest_s')::float8),
        state = CASE WHEN c.results IS NULL THEN 'empty' ELSE 'ready' END
    WHERE c.cache_key = payload->>'cache_key' AND c.lease_owner = payload->>'owner';
    RETURN jsonb_build_object('released', FOUND);
END
$$;

-- counts: [{project, class, cost_usd, fresh, stale, coalesced, negative}]; `cost_usd` is what each answer
-- has saved, NULL where that is unknown.
CREATE OR REPLACE FUNCTION llm_search_add(counts jsonb) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    INSERT INTO llm_search_counts AS c (project, class, day, fresh, stale, coalesced, negative, saved_usd, unpriced)
    SELECT n.project, n.class, (clock_timestamp() AT TIME ZONE 'UTC')::date,
           sum(n.fresh), sum(n.stale), sum(n.coalesced), sum(n.negative),
           sum(coalesce(n.cost_usd, 0) * (n.fresh + n.stale + n.coalesced + n.negative)),
           coalesce(sum(n.fresh + n.stale + n.coalesced + n.negative) FILTER (WHERE n.cost_usd IS NULL), 0)
    FROM (SELECT r.project, r.class, r.cost_usd, coalesce(r.fresh, 0) AS fresh, coalesce(r.stale, 0) AS stale,
                 coalesce(r.coalesced, 0) AS coalesced, coalesce(r.negative, 0) AS negative
          FROM jsonb_to_recordset(counts) r(project text, class text, cost_usd numeric, fresh bigint,
                                            stale bigint, coalesced bigint, negative bigint)) n
    WHERE n.project IS NOT NULL
    GROUP BY n.project, n.class
    -- In one order: two processes that count at once must not wait for each other.
    ORDER BY n.project, n.class
    ON CONFLICT (project, class, day) DO UPDATE
    SET fresh = c.fresh + excluded.fresh, stale = c.stale + excluded.stale,
        coalesced = c.coalesced + excluded.coalesced, negative = c.negative + excluded.negative,
        saved_usd = c.saved_usd + excluded.saved_usd, unpriced = c.unpriced + excluded.unpriced
$$;

-- payload: {batch_id, counts: [{cache_key, project, class, cost_usd, fresh, stale, coalesced, negative}]}
-- answer: {counted}; a batch that is sent again changes nothing.
CREATE OR REPLACE FUNCTION llm_search_count(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO llm_search_batches (batch_id) VALUES ((payload->>'batch_id')::uuid) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM FROM web_search_cache c
        WHERE c.cache_key IN (SELECT n->>'cache_key' FROM jsonb_array_elements(payload->'counts') n)
        ORDER BY c.cache_key FOR UPDATE;
        UPDATE web_search_cache c
        SET hit_count = coalesce(c.hit_count, 0) + h.hits, last_hit_at = clock_timestamp()
        FROM (SELECT r.cache_key, sum(coalesce(r.fresh, 0) + coalesce(r.stale, 0) + coalesce(r.coalesced, 0)
                                      + coalesce(r.negative, 0))::int AS hits
              FROM jsonb_to_recordset(payload->'counts') r(cache_key text, fresh bigint, stale bigint,
                                                           coalesced bigint, negative bigint)
              GROUP BY r.cache_key) h
        WHERE c.cache_key = h.cache_key;
        PERFORM llm_search_add(payload->'counts');
    END IF;
    RETURN '{"counted": true}';
END
$$;

-- payload: {project, memory_hits: {cache_key: number}}. The second is what a library of the schema before
-- has answered from memory.
-- answer: {cache_hits, stale, coalesced, negative, paid, entries}
CREATE OR REPLACE FUNCTION llm_search_stats(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    IF payload ? 'memory_hits' THEN
        PERFORM llm_search_count(jsonb_build_object('batch_id', gen_random_uuid(), 'counts', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'cache_key', h.key, 'project', c.project, 'class', coalesce(c.class, 'reference'),
                'cost_usd', c.cost_usd, 'fresh', h.value)), '[]')
            FROM jsonb_each_text(payload->'memory_hits') h JOIN web_search_cache c ON c.cache_key = h.key)));
    END IF;
    RETURN (
        SELECT jsonb_build_object(
            'cache_hits', coalesce(sum(n.fresh + n.stale + n.coalesced + n.negative), 0),
            'stale', coalesce(sum(n.stale), 0), 'coalesced', coalesce(sum(n.coalesced), 0),
            'negative', coalesce(sum(n.negative), 0),
            'entries', (SELECT count(*) FROM web_search_cache c
                        WHERE c.project = payload->>'project' AND c.results IS NOT NULL),
            -- A search that another engine answered is a fallback of the one that came first.
            'paid', (SELECT count(*) FROM cost_tracking t
                     WHERE t.project = payload->>'project' AND t.status = 'ok'
                       AND (t.kind = 'search' OR t.kind = 'fallback' AND EXISTS (
                            SELECT FROM cost_tracking s
                            WHERE s.operation_id = t.operation_id AND s.kind = 'search'))))
        FROM llm_search_counts n WHERE n.project = payload->>'project');
END
$$;

-- payload: {project, start, end}; both days are included.
-- answer: {classes: [{class, fresh, stale, coalesced, negative, saved_usd, unpriced, entries}]}
CREATE OR REPLACE FUNCTION llm_search_report(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    WITH counted AS (
        SELECT n.class, sum(n.fresh) AS fresh, sum(n.stale) AS stale, sum(n.coalesced) AS coalesced,
               sum(n.negative) AS negative, sum(n.saved_usd) AS saved_usd, sum(n.unpriced) AS unpriced
        FROM llm_search_counts n
        WHERE n.project = payload->>'project'
          AND n.day BETWEEN (payload->>'start')::date AND (payload->>'end')::date
        GROUP BY n.class
    ), kept AS (
        SELECT coalesce(c.class, 'reference') AS class, count(*) AS entries
        FROM web_search_cache c
        WHERE c.project = payload->>'project' AND c.results IS NOT NULL GROUP BY 1
    )
    SELECT jsonb_build_object('classes', coalesce(jsonb_agg(jsonb_build_object(
        'class', class, 'fresh', coalesce(n.fresh, 0), 'stale', coalesce(n.stale, 0),
        'coalesced', coalesce(n.coalesced, 0), 'negative', coalesce(n.negative, 0),
        'saved_usd', coalesce(n.saved_usd, 0)::text, 'unpriced', coalesce(n.unpriced, 0),
        'entries', coalesce(k.entries, 0)) ORDER BY class), '[]'))
    FROM counted n FULL JOIN kept k USING (class)
$$;

-- payload: {project, most, batch}. Deletes at most `batch` entries: those whose every window is over, then
-- those beyond `most` that nobody asked for the longest. What is leased stays.
-- answer: {deleted}
CREATE OR REPLACE FUNCTION llm_search_tidy(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    room int := (payload->>'batch')::int;
    excess bigint;
    over int;
    beyond int := 0;
BEGIN
    DELETE FROM llm_search_batches b WHERE b.counted_at < clock_timestamp() - interval '1 day';
    DELETE FROM web_search_cache c WHERE c.cache_key IN (
        SELECT o.cache_key FROM web_search_cache o
        WHERE o.project = payload->>'project'
          AND greatest(coalesce(o.expires_at, o.cached_at + interval '24 hours'), o.stale_until, o.error_until)
              < clock_timestamp()
          AND coalesce(o.lease_until < clock_timestamp(), true)
        LIMIT room FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS over = ROW_COUNT;
    SELECT count(*) - (payload->>'most')::bigint INTO excess
    FROM web_search_cache c WHERE c.project = payload->>'project';
    IF excess > 0 AND over < room THEN
        DELETE FROM web_search_cache c WHERE c.cache_key IN (
            SELECT o.cache_key FROM web_search_cache o
            WHERE o.project = payload->>'project' AND coalesce(o.lease_until < clock_timestamp(), true)
            ORDER BY coalesce(o.last_hit_at, o.cached_at)
            LIMIT least(excess, room - over) FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS beyond = ROW_COUNT;
    END IF;
    RETURN jsonb_build_object('deleted', over + beyond);
END
$$;

-- Deletes what is of no use any more, whoever asks.
CREATE OR REPLACE FUNCTION cleanup_search_cache() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM web_search_cache
    WHERE greatest(coalesce(expires_at, cached_at + interval '24 hours'), stale_until, error_until)
          < clock_timestamp()
      AND (lease_until IS NULL OR lease_until < clock_timestamp());
    DELETE FROM llm_search_batches WHERE counted_at < clock_timestamp() - interval '1 day'
$$;

SELECT llm_lock_down(
    ARRAY['llm_search_counts', 'llm_search_batches'],
    ARRAY['llm_search_read', 'llm_search_claim', 'llm_search_fill', 'llm_search_release',
          'llm_search_add', 'llm_search_count', 'llm_search_stats', 'llm_search_report', 'llm_search_tidy',
          'cleanup_search_cache']);

NOTIFY pgrst, 'reload schema';
