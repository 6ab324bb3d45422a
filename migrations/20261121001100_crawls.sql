-- Crawls: a durable frontier with a state and a reason per URL, and the pages behind it by the hash of
-- their bytes. One process works on a crawl; its fence, checked under the crawl's row lock, keeps one that
-- was given up for dead from writing over its successor.

CREATE TABLE IF NOT EXISTS llm_crawls (
    id           uuid PRIMARY KEY,
    project      text NOT NULL,
    seeds        jsonb NOT NULL,
    config       jsonb NOT NULL,
    state        text NOT NULL CHECK (state IN ('running', 'stopped', 'completed')),
    owner        text NOT NULL,
    open_id      uuid NOT NULL,
    fence        bigint NOT NULL DEFAULT 1,
    pages        bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at timestamptz
);
CREATE INDEX IF NOT EXISTS llm_crawls_project ON llm_crawls (project, created_at);

-- `interruptions`: how often a process ended while it asked for the URL; what it asked for is asked again.
CREATE TABLE IF NOT EXISTS llm_crawl_urls (
    crawl_id      uuid NOT NULL REFERENCES llm_crawls (id) ON DELETE CASCADE,
    url_key       uuid NOT NULL,
    url           text NOT NULL,
    host          text NOT NULL,
    parent        text,
    depth         integer NOT NULL,
    found_order   bigint NOT NULL,
    score         double precision NOT NULL DEFAULT 0,
    hops          integer NOT NULL DEFAULT 0,
    state         text NOT NULL CHECK (state IN ('queued', 'claimed', 'done')),
    reason        text,
    attempts      integer NOT NULL DEFAULT 0,
    interruptions integer NOT NULL DEFAULT 0,
    not_before    timestamptz,
    status        integer,
    redirect_to   text,
    content_hash  text,
    media_type    text,
    duplicate_of  text,
    fetched_at    timestamptz,
    PRIMARY KEY (crawl_id, url_key)
);
CREATE INDEX IF NOT EXISTS llm_crawl_urls_order ON llm_crawl_urls (crawl_id, state, fetched_at);

-- What sites answered, compressed with zlib, by the SHA-256 of the bytes as they came.
CREATE TABLE IF NOT EXISTS llm_page_bodies (
    content_hash text PRIMARY KEY,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What an extractor made of bytes at a URL, which is what relative links lead from: JSON, compressed.
CREATE TABLE IF NOT EXISTS llm_page_contents (
    content_hash text NOT NULL,
    extractor    text NOT NULL,
    url_key      uuid NOT NULL,
    content      bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (content_hash, extractor, url_key)
);

-- They come compressed.
ALTER TABLE llm_page_bodies ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE llm_page_contents ALTER COLUMN content SET STORAGE EXTERNAL;

-- payload: {crawl_id, open_id, project, seeds, config, max_pages, owner, take_over, stale_after_s}. Without
-- seeds it only takes up what there is; a `max_pages` replaces the one in the stored configuration.
-- answer: {crawl_id, fence, state, seeds, config, pages}, {busy: true, owner, stale}, or {absent: true}
CREATE OR REPLACE FUNCTION llm_crawl_open(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    crawl llm_crawls;
    is_new boolean := false;
BEGIN
    IF jsonb_typeof(payload->'seeds') = 'array' THEN
        INSERT INTO llm_crawls (id, project, seeds, config, state, owner, open_id)
        VALUES ((payload->>'crawl_id')::uuid, payload->>'project', payload->'seeds', payload->'config',
                'running', payload->>'owner', (payload->>'open_id')::uuid)
        ON CONFLICT (id) DO NOTHING;
        is_new := FOUND;
    END IF;
    SELECT * INTO crawl FROM llm_crawls c
    WHERE c.id = (payload->>'crawl_id')::uuid AND c.project = payload->>'project' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('absent', true);
    END IF;
    IF NOT is_new AND crawl.open_id <> (payload->>'open_id')::uuid THEN
        IF crawl.state = 'running' AND crawl.owner IS DISTINCT FROM payload->>'take_over' THEN
            RETURN jsonb_build_object('busy', true, 'owner', crawl.owner, 'stale',
                crawl.updated_at < clock_timestamp()
                                   - make_interval(secs => (payload->>'stale_after_s')::float8));
        END IF;
        UPDATE llm_crawls c
        SET state = 'running', owner = payload->>'owner', open_id = (payload->>'open_id')::uuid,
            fence = c.fence + 1, updated_at = clock_timestamp(), completed_at = NULL,
            config = CASE WHEN payload->>'max_pages' IS NULL THEN c.config
                     ELSE c.config || jsonb_build_object('max_pages', payload->'max_pages') END
        WHERE c.id = crawl.id RETURNING * INTO crawl;
        UPDATE llm_crawl_urls u
        SET state = 'queued', attempts = u.attempts - 1, interruptions = u.interruptions + 1
        WHERE u.crawl_id = crawl.id AND u.state = 'claimed';
    END IF;
    RETURN jsonb_build_object('crawl_id', crawl.id, 'fence', crawl.fence, 'state', crawl.state,
                              'seeds', crawl.seeds, 'config', crawl.config, 'pages', crawl.pages);
END
$$;

-- Locks a crawl and tells whether the caller still owns it; that it lives shows in updated_at.
CREATE OR REPLACE FUNCTION llm_crawl_holds(payload jsonb) RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE llm_crawls c SET updated_at = clock_timestamp()
    WHERE c.id = (payload->>'crawl_id')::uuid AND c.fence = (payload->>'fence')::bigint;
    RETURN FOUND;
END
$$;

-- One turn of a crawl: URLs as they now stand (new, claimed, ended), with the pages that came.
-- payload: {crawl_id, fence, pages, urls: [row of llm_crawl_urls; moments in seconds since 1970],
--           bodies: [{content_hash, body}], contents: [{content_hash, extractor, url_key, content}]}
-- answer: {recorded: true}, or {fenced: true}. Bodies and contents are compressed, in base64.
CREATE OR REPLACE FUNCTION llm_crawl_record(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT llm_crawl_holds(payload) THEN
        RETURN jsonb_build_object('fenced', true);
    END IF;
    UPDATE llm_crawls c SET pages = (payload->>'pages')::bigint WHERE c.id = (payload->>'crawl_id')::uuid
        AND c.pages <> (payload->>'pages')::bigint;
    -- In one order: crawls that find the same bytes must not wait for each other.
    INSERT INTO llm_page_bodies (content_hash, body)
    SELECT b.content_hash, decode(b.body, 'base64')
    FROM jsonb_to_recordset(payload->'bodies') AS b(content_hash text, body text)
    -- A cleanup at the same time sees that they are in use again.
    ORDER BY 1 ON CONFLICT (content_hash) DO UPDATE SET created_at = clock_timestamp();
    INSERT INTO llm_page_contents (content_hash, extractor, url_key, content)
    SELECT c.content_hash, c.extractor, c.url_key, decode(c.content, 'base64')
    FROM jsonb_to_recordset(payload->'contents')
         AS c(content_hash text, extractor text, url_key uuid, content text)
    ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING;
    INSERT INTO llm_crawl_urls (crawl_id, url_key, url, host, parent, depth, found_order, score, hops, state,
                                reason, attempts, interruptions, not_before, status, redirect_to,
                                content_hash, media_type, duplicate_of, fetched_at)
    SELECT (payload->>'crawl_id')::uuid, u.url_key, u.url, u.host, u.parent, u.depth, u.found_order, u.score,
           u.hops, u.state, u.reason, u.attempts, u.interruptions, to_timestamp(u.not_before), u.status,
           u.redirect_to, u.content_hash, u.media_type, u.duplicate_of, to_timestamp(u.fetched_at)
    FROM jsonb_to_recordset(payload->'urls') AS u(
        url_key uuid, url text, host text, parent text, depth int, found_order bigint, score float8,
        hops int, state text, reason text, attempts int, interruptions int, not_before float8, status int,
        redirect_to text, content_hash text, media_type text, duplicate_of text, fetched_at float8)
    ON CONFLICT (crawl_id, url_key) DO UPDATE SET
        parent = excluded.parent, depth = excluded.depth, found_order = excluded.found_order,
        score = excluded.score, hops = excluded.hops, state = excluded.state, reason = excluded.reason,
        attempts = excluded.attempts, not_before = excluded.not_before, status = excluded.status,
        redirect_to = excluded.redirect_to, content_hash = excluded.content_hash,
        media_type = excluded.media_type, duplicate_of = excluded.duplicate_of,
        fetched_at = excluded.fetched_at;
    RETURN jsonb_build_object('recorded', true);
END
$$;

-- payload: {crawl_id, fence, state}. What was claimed and did not end is queued again.
-- answer: {state}, or {fenced: true}
CREATE OR REPLACE FUNCTION llm_crawl_close(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT llm_crawl_holds(payload) THEN
        RETURN jsonb_build_object('fenced', true);
    END IF;
    UPDATE llm_crawls c
    SET state = payload->>'state',
        completed_at = CASE WHEN payload->>'state' = 'completed' THEN clock_timestamp() END
    WHERE c.id = (payload->>'crawl_id')::uuid;
    UPDATE llm_crawl_urls u
    SET state = 'queued', attempts = u.attempts - 1, interruptions = u.interruptions + 1
    WHERE u.crawl_id = (payload->>'crawl_id')::uuid AND u.state = 'claimed';
    RETURN jsonb_build_object('state', payload->>'state');
END
$$;

-- payload: {crawl_id, after, limit, fetched}: rows in the order of their keys, after a key; with `fetched`
-- only those that have a page.
-- answer: {urls: [row of llm_crawl_urls; moments in seconds since 1970]}
CREATE OR REPLACE FUNCTION llm_crawl_urls_after(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('urls', coalesce(jsonb_agg(
        to_jsonb(u) - 'crawl_id' || jsonb_build_object(
            'not_before', extract(epoch FROM u.not_before)::float8,
            'fetched_at', extract(epoch FROM u.fetched_at)::float8) ORDER BY u.url_key), '[]'))
    FROM (SELECT * FROM llm_crawl_urls r
          WHERE r.crawl_id = (payload->>'crawl_id')::uuid
            AND (payload->>'after' IS NULL OR r.url_key > (payload->>'after')::uuid)
            AND (r.content_hash IS NOT NULL OR NOT coalesce((payload->>'fetched')::boolean, false))
          ORDER BY r.url_key LIMIT (payload->>'limit')::int) u
$$;

-- payload: {extractor, wanted: [{content_hash, url_key}], bodies: whether to send those too}
-- answer: {found: [{content_hash, url_key, content, body}]}, compressed and in base64; null where there is none
CREATE OR REPLACE FUNCTION llm_page_contents_of(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('found', coalesce(jsonb_agg(jsonb_build_object(
        'content_hash', w.content_hash, 'url_key', w.url_key,
        'content', encode(c.content, 'base64'), 'body', encode(b.body, 'base64'))), '[]'))
    FROM jsonb_to_recordset(payload->'wanted') AS w(content_hash text, url_key uuid)
    LEFT JOIN llm_page_contents c ON c.content_hash = w.content_hash AND c.url_key = w.url_key
         AND c.extractor = payload->>'extractor'
    LEFT JOIN llm_page_bodies b ON b.content_hash = w.content_hash AND c.content IS NULL
         AND (payload->>'bodies')::boolean
$$;

-- payload: {contents: [{content_hash, extractor, url_key, content}]}: what a new extractor made of old bytes
-- answer: {stored}
CREATE OR REPLACE FUNCTION llm_page_contents_store(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    number bigint;
BEGIN
    INSERT INTO llm_page_contents (content_hash, extractor, url_key, content)
    SELECT c.content_hash, c.extractor, c.url_key, decode(c.content, 'base64')
    FROM jsonb_to_recordset(payload->'contents')
         AS c(content_hash text, extractor text, url_key uuid, content text)
    ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS number = ROW_COUNT;
    RETURN jsonb_build_object('stored', number);
END
$$;

-- payload: {project, crawl_id, limit}; what is null does not narrow. The id may be its first characters.
-- answer: {crawls: [{id, state, seeds, config, pages, queued, attempts, interruptions, reasons: {reason: number},
--          created_at, updated_at, completed_at}]}, newest first
CREATE OR REPLACE FUNCTION llm_crawl_list(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('crawls', coalesce(jsonb_agg(
        to_jsonb(c) - 'open_id' - 'fence' || (
            SELECT jsonb_build_object(
                'queued', coalesce(sum(r.number) FILTER (WHERE r.state <> 'done'), 0),
                'attempts', coalesce(sum(r.attempts), 0), 'interruptions', coalesce(sum(r.interruptions), 0),
                'reasons', coalesce(jsonb_object_agg(r.reason, r.number) FILTER (WHERE r.state = 'done'), '{}'))
            FROM (SELECT u.state, CASE WHEN u.state = 'done' THEN u.reason END AS reason, count(*) AS number,
                         sum(u.attempts) AS attempts, sum(u.interruptions) AS interruptions
                  FROM llm_crawl_urls u WHERE u.crawl_id = c.id GROUP BY 1, 2) r)
        ORDER BY c.created_at DESC), '[]'))
    FROM (SELECT * FROM llm_crawls l
          WHERE l.project = payload->>'project'
            AND (payload->>'crawl_id' IS NULL OR starts_with(l.id::text, payload->>'crawl_id'))
          ORDER BY l.created_at DESC LIMIT coalesce((payload->>'limit')::int, 50)) c
$$;

-- Deletes crawls that nobody has worked on for so long, and the pages that no crawl has any more; for a cron
-- job. A crawl at work is never silent for more than a minute.
CREATE OR REPLACE FUNCTION cleanup_crawls(older_than interval) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM llm_crawls c WHERE c.updated_at < clock_timestamp() - older_than;
    DELETE FROM llm_page_contents p WHERE p.created_at < clock_timestamp() - older_than
        AND NOT EXISTS (SELECT FROM llm_crawl_urls u WHERE u.content_hash = p.content_hash);
    DELETE FROM llm_page_bodies p WHERE p.created_at < clock_timestamp() - older_than
        AND NOT EXISTS (SELECT FROM llm_crawl_urls u WHERE u.content_hash = p.content_hash);
$$;
CREATE INDEX IF NOT EXISTS llm_crawl_urls_content ON llm_crawl_urls (content_hash)
    WHERE content_hash IS NOT NULL;

SELECT llm_lock_down(
    ARRAY['llm_crawls', 'llm_crawl_urls', 'llm_page_bodies', 'llm_page_contents'],
    ARRAY['llm_crawl_open', 'llm_crawl_holds', 'llm_crawl_record', 'llm_crawl_close', 'llm_crawl_urls_after',
          'llm_page_contents_of', 'llm_page_contents_store', 'llm_crawl_list', 'cleanup_crawls']);

NOTIFY pgrst, 'reload schema';
