-- Leases: money that a process holds ahead of its calls, so that one grant serves many of them.
--
-- True after every commit, for every counter c:
--   held(c)  = bounds of the open holds on c + left_nano of the open leases on c
--   spent(c) = cost of the ledger's rows in c's scope and window
--   spent(c) + held(c) grows only by a grant that fits the limit, by rows that cost more than their
--   bound, and by rows that no hold or lease stood for.
-- left_nano is what a lease was granted, less what its rows used (a row at most its bound), less what
-- its owner gave back. While the lease is 'open' it is a part of held. An owner that is not heard of
-- until expires_at is charged: the lease is 'lost', and left_nano is the cost of one ledger row of kind
-- lease_loss, which shrinks by what the owner's late rows and returns turn out to account for.
-- Owners state totals, never differences: whatever is said twice, or late, counts once.
-- Lock order: gates of projects, counters sorted by key, then ledger rows, holds and leases. Whoever
-- changes a hold or a lease has locked its counters.

CREATE TABLE IF NOT EXISTS llm_leases (
    lease_id      uuid PRIMARY KEY,
    project       text   NOT NULL,
    owner         text   NOT NULL,
    limits        jsonb  NOT NULL,
    accounted_on  date   NOT NULL,
    granted_nano  bigint NOT NULL CHECK (granted_nano >= 0),
    left_nano     bigint NOT NULL CHECK (left_nano >= 0),
    returned_nano bigint NOT NULL DEFAULT 0,
    state         text   NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'lost')),
    is_closed     boolean NOT NULL DEFAULT false,
    recalled_at   timestamptz,
    ends_at       timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
);

CREATE INDEX IF NOT EXISTS llm_leases_open ON llm_leases (project, expires_at)
    WHERE state = 'open' AND left_nano > 0;
CREATE INDEX IF NOT EXISTS llm_leases_recalled ON llm_leases (project, recalled_at)
    WHERE recalled_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS llm_leases_done ON llm_leases (expires_at) WHERE left_nano = 0;
CREATE INDEX IF NOT EXISTS llm_holds_done ON llm_holds (expires_at) WHERE state <> 'held';

-- ---------------------------------------------------------------- time zones

-- Whether the server knows a zone by this name.
CREATE OR REPLACE FUNCTION llm_is_timezone(zone text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM clock_timestamp() AT TIME ZONE zone;
    RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;
END
$$;

ALTER TABLE llm_projects DROP CONSTRAINT IF EXISTS llm_projects_timezone_check;
ALTER TABLE llm_projects ADD CONSTRAINT llm_projects_timezone_check CHECK (llm_is_timezone(timezone));

-- The moment at which a day ends in the project's zone.
CREATE OR REPLACE FUNCTION llm_day_end(in_project text, day date) RETURNS timestamptz
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT (day + 1)::timestamp AT TIME ZONE coalesce(
        (SELECT p.timezone FROM llm_projects p WHERE p.project = in_project), 'UTC')
$$;

-- ---------------------------------------------------------------- counters

-- The counters that a ledger row with accounted_on counts in, whether or not they exist.
CREATE OR REPLACE FUNCTION llm_row_counters(ledger_row jsonb)
RETURNS TABLE (project text, scope text, scope_id text, window_kind text, window_start date)
LANGUAGE sql IMMUTABLE ROWS 10
SET search_path FROM CURRENT
AS $$
    -- Not llm_row_scopes and llm_window_start: this runs several times for every row there is.
    SELECT ledger_row->>'project', s.scope, s.scope_id, w.kind, w.start
    FROM (
        SELECT v.scope, v.scope_id
        FROM (VALUES
            ('project', ledger_row->>'project'),
            ('user', ledger_row->>'user_id'),
            ('task', ledger_row->>'task'),
            ('model', ledger_row->>'requested_model'),
            ('run', ledger_row->>'run_id'),
            ('job', ledger_row->>'job_id')
        ) AS v (scope, scope_id)
        WHERE v.scope_id IS NOT NULL
        UNION ALL
        SELECT DISTINCT 'tag', t FROM jsonb_array_elements_text(
            CASE jsonb_typeof(ledger_row->'tags') WHEN 'array' THEN ledger_row->'tags' ELSE '[]' END) AS t
    ) s, (VALUES
        ('day', (ledger_row->>'accounted_on')::date),
        ('month', date_trunc('month', (ledger_row->>'accounted_on')::timestamp)::date),
        ('total', date '2000-01-01')
    ) AS w (kind, start)
$$;

-- The row that a lease becomes when its owner is not heard of: it counts in every scope of its limits.
CREATE OR REPLACE FUNCTION llm_loss_row(lease llm_leases) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object(
        'operation_id', lease.lease_id, 'attempt_no', 1, 'kind', 'lease_loss',
        'status', 'estimated', 'cost_source', 'estimated', 'error_class', 'LeaseExpired',
        'cost_usd', lease.left_nano / 1e9::numeric, 'project', lease.project,
        'accounted_on', lease.accounted_on, 'timestamp', lease.expires_at,
        'model', coalesce(min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'model'), 'lease'),
        'requested_model', min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'model'),
        'user_id', min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'user'),
        'task', min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'task'),
        'run_id', min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'run'),
        'job_id', min(l->>'scope_id') FILTER (WHERE l->>'scope' = 'job'),
        'tags', coalesce(jsonb_agg(DISTINCT l->>'scope_id') FILTER (WHERE l->>'scope' = 'tag'), '[]'))
    FROM jsonb_array_elements(lease.limits) l
$$;

-- Locks, in order, the gates of the projects and every counter that requests, ledger rows (with
-- accounted_on) and leases can move. An estimate that is in the ledger keeps its own windows.
CREATE OR REPLACE FUNCTION llm_lock(requests jsonb, ledger_rows jsonb, lease_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    p text;
    k record;
    leased uuid[] := lease_ids || ARRAY(
        SELECT (r->>'lease_id')::uuid FROM jsonb_array_elements(ledger_rows) r WHERE r ? 'lease_id');
BEGIN
    FOR p IN
        SELECT e->>'project' FROM jsonb_array_elements(requests || ledger_rows) e
        UNION SELECT l.project FROM llm_leases l WHERE l.lease_id = ANY (leased)
        ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('llm_common:' || p, 0));
    END LOOP;
    FOR k IN
        SELECT c.project, c.scope, c.scope_id, c.window_kind, c.window_start
        FROM jsonb_array_elements(requests) r, llm_request_counters(r) c
        UNION
        SELECT c.* FROM jsonb_array_elements(ledger_rows) r, llm_row_counters(r) c
        UNION
        SELECT c.* FROM jsonb_array_elements(ledger_rows) r
        JOIN cost_tracking t ON t.operation_id = (r->>'operation_id')::uuid
            AND t.attempt_no = (r->>'attempt_no')::int AND t.cost_source = 'estimated',
            llm_row_counters(to_jsonb(t)) c
        UNION
        SELECT c.project, c.scope, c.scope_id, c.window_kind, c.window_start
        FROM jsonb_array_elements(ledger_rows) r
        JOIN llm_holds h ON h.operation_id = (r->>'operation_id')::uuid
            AND h.attempt_no = (r->>'attempt_no')::int AND h.state = 'held',
            llm_request_counters(jsonb_build_object(
                'project', h.project, 'limits', h.limits, 'today', h.answer->'accounted_on')) c
        UNION
        SELECT c.* FROM llm_leases l, llm_row_counters(llm_loss_row(l)) c WHERE l.lease_id = ANY (leased)
        ORDER BY 1, 2, 3, 4, 5
    LOOP
        PERFORM 1 FROM llm_budget_counters c
        WHERE c.project = k.project AND c.scope = k.scope AND c.scope_id = k.scope_id
          AND c.window_kind = k.window_kind AND c.window_start = k.window_start
        FOR UPDATE;
    END LOOP;
END
$$;

-- parts: [{project, limits, today, nano}]. Moves what is held; a part counts once in a counter that
-- several of its limits name.
CREATE OR REPLACE FUNCTION llm_add_held(parts jsonb) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    UPDATE llm_budget_counters c SET held_nano = c.held_nano + moved.nano
    FROM (
        SELECT once.project, once.scope, once.scope_id, once.window_kind, once.window_start,
               sum(once.nano)::bigint AS nano
        FROM (
            SELECT DISTINCT t.n, l.project, l.scope, l.scope_id, l.window_kind, l.window_start,
                   (t.part->>'nano')::bigint AS nano
            FROM jsonb_array_elements(parts) WITH ORDINALITY AS t (part, n), llm_request_counters(t.part) l
        ) once
        GROUP BY 1, 2, 3, 4, 5
    ) moved
    WHERE c.project = moved.project AND c.scope = moved.scope AND c.scope_id = moved.scope_id
      AND c.window_kind = moved.window_kind AND c.window_start = moved.window_start
$$;

-- ledger_rows: [{labels, accounted_on, grown}]. Moves what is spent.
CREATE OR REPLACE FUNCTION llm_add_spent(ledger_rows jsonb) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    UPDATE llm_budget_counters c SET spent_usd = c.spent_usd + moved.grown
    FROM (
        SELECT k.project, k.scope, k.scope_id, k.window_kind, k.window_start,
               sum((r->>'grown')::numeric) AS grown
        FROM jsonb_array_elements(ledger_rows) r, llm_row_counters(r) k
        WHERE (r->>'grown')::numeric <> 0
        GROUP BY 1, 2, 3, 4, 5
    ) moved
    WHERE c.project = moved.project AND c.scope = moved.scope AND c.scope_id = moved.scope_id
      AND c.window_kind = moved.window_kind AND c.window_start = moved.window_start
$$;

-- ---------------------------------------------------------------- the ledger

-- Rows as they are written: each with an id, a moment, its day and its place in the batch.
CREATE OR REPLACE FUNCTION llm_filled(ledger_rows jsonb) RETURNS jsonb
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(jsonb_agg(r || jsonb_build_object(
        'id', coalesce(r->>'id', gen_random_uuid()::text), 'timestamp', m.moment,
        'accounted_on', coalesce((r->>'accounted_on')::date, llm_day_of(r->>'project', m.moment)),
        'over_hold', coalesce((r->>'over_hold')::boolean, false), 'position', n) ORDER BY n), '[]')
    FROM jsonb_array_elements(ledger_rows) WITH ORDINALITY AS t (r, n),
         LATERAL (SELECT coalesce((r->>'timestamp')::timestamptz, clock_timestamp()) AS moment) m
$$;

-- What a row takes out of its lease: its cost, at most its bound.
CREATE OR REPLACE FUNCTION llm_used_nano(ledger_row jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT least(ceil(coalesce((ledger_row->>'cost_usd')::numeric, 0) * 1e9)::bigint,
                 (ledger_row->>'bound_nano')::bigint)
$$;

-- Writes filled rows by precedence: of one attempt the first row goes in, an estimate gives way to
-- the first final row, a final row never changes.
-- answer: [{labels, accounted_on, grown}], and for a new row of a lease lease_id and used_nano
CREATE OR REPLACE FUNCTION llm_write_rows(ledger_rows jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    written jsonb;
    replaced jsonb;
BEGIN
    WITH firsts AS (
        SELECT DISTINCT ON ((r->>'operation_id')::uuid, (r->>'attempt_no')::int)
               (r->>'operation_id')::uuid AS operation, (r->>'attempt_no')::int AS attempt, r
        FROM jsonb_array_elements(ledger_rows) r
        ORDER BY 1, 2, (r->>'position')::int
    ), added AS (
        INSERT INTO cost_tracking
        SELECT new.* FROM firsts, jsonb_populate_record(NULL::cost_tracking, firsts.r) new
        ORDER BY new.operation_id, new.attempt_no
        ON CONFLICT (operation_id, attempt_no) DO NOTHING
        RETURNING *
    )
    SELECT coalesce(jsonb_agg(to_jsonb(added) || jsonb_build_object(
        'grown', coalesce(added.cost_usd, 0), 'lease_id', r->'lease_id', 'used_nano', llm_used_nano(r))), '[]')
    INTO written
    FROM added JOIN firsts ON operation = added.operation_id AND attempt = added.attempt_no;
    WITH finals AS (
        SELECT DISTINCT ON (new.operation_id, new.attempt_no) new.*
        FROM jsonb_array_elements(ledger_rows) r, jsonb_populate_record(NULL::cost_tracking, r) new
        WHERE new.cost_source IS DISTINCT FROM 'estimated'
        ORDER BY new.operation_id, new.attempt_no, (r->>'position')::int
    ), old AS (
        SELECT c.id, c.operation_id, c.attempt_no, c.cost_usd
        FROM cost_tracking c
        JOIN finals f ON f.operation_id = c.operation_id AND f.attempt_no = c.attempt_no
        WHERE c.cost_source = 'estimated' AND c.kind <> 'lease_loss'
        ORDER BY c.operation_id, c.attempt_no
        FOR UPDATE OF c
    ), changed AS (
        UPDATE cost_tracking c SET
            status = f.status, error_class = f.error_class, model = f.model, cost_usd = f.cost_usd,
            cost_source = f.cost_source, price_version = f.price_version, tokens_used = f.tokens_used,
            input_tokens = f.input_tokens, output_tokens = f.output_tokens,
            cached_input_tokens = f.cached_input_tokens, cache_write_tokens = f.cache_write_tokens,
            reasoning_tokens = f.reasoning_tokens, latency_ms = f.latency_ms, over_hold = f.over_hold
        FROM finals f
        JOIN old ON old.operation_id = f.operation_id AND old.attempt_no = f.attempt_no
        WHERE c.id = old.id
        RETURNING c.*, coalesce(c.cost_usd, 0) - coalesce(old.cost_usd, 0) AS grown
    )
    SELECT coalesce(jsonb_agg(to_jsonb(changed)), '[]') INTO replaced FROM changed;
    RETURN written || replaced;
END
$$;

-- Takes the holds of rows down, where they still stand; a settlement never needs them to.
CREATE OR REPLACE FUNCTION llm_end_holds(ledger_rows jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    parts jsonb;
BEGIN
    WITH ended AS (
        UPDATE llm_holds h SET state = 'settled'
        FROM jsonb_array_elements(ledger_rows) r
        WHERE h.operation_id = (r->>'operation_id')::uuid AND h.attempt_no = (r->>'attempt_no')::int
          AND h.state = 'held'
        RETURNING h.*
    )
    SELECT jsonb_agg(jsonb_build_object(
        'project', project, 'limits', limits, 'today', answer->'accounted_on', 'nano', -bound_nano))
    INTO parts FROM ended;
    IF parts IS NOT NULL THEN
        PERFORM llm_add_held(parts);
    END IF;
END
$$;

-- ---------------------------------------------------------------- leases

-- parts: [{lease_id, nano}]. Takes what was used or returned out of the leases that have it left.
CREATE OR REPLACE FUNCTION llm_draw_leases(parts jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    part record;
    lease llm_leases;
    taken bigint;
BEGIN
    FOR part IN
        SELECT x.lease_id, sum(x.nano) AS nano
        FROM jsonb_to_recordset(parts) AS x (lease_id uuid, nano bigint)
        GROUP BY 1 ORDER BY 1
    LOOP
        SELECT * INTO lease FROM llm_leases l WHERE l.lease_id = part.lease_id FOR UPDATE;
        taken := least(part.nano, lease.left_nano);
        CONTINUE WHEN NOT FOUND OR taken <= 0;
        UPDATE llm_leases l SET left_nano = l.left_nano - taken WHERE l.lease_id = lease.lease_id;
        IF lease.state = 'open' THEN
            PERFORM llm_add_held(jsonb_build_array(jsonb_build_object(
                'project', lease.project, 'limits', lease.limits, 'today', lease.accounted_on,
                'nano', -taken)));
        ELSE
            PERFORM llm_shrink_loss(lease.lease_id, taken / 1e9::numeric);
        END IF;
    END LOOP;
END
$$;

-- Makes the row of a lost lease smaller; one of which nothing is left is final: nothing was lost.
CREATE OR REPLACE FUNCTION llm_shrink_loss(in_lease uuid, amount numeric) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    loss jsonb;
BEGIN
    UPDATE cost_tracking c SET
        cost_usd = c.cost_usd - amount,
        status = CASE WHEN c.cost_usd = amount THEN 'ok' ELSE c.status END,
        cost_source = CASE WHEN c.cost_usd = amount THEN 'unsent' ELSE c.cost_source END
    WHERE c.operation_id = in_lease AND c.attempt_no = 1 AND c.kind = 'lease_loss'
    RETURNING to_jsonb(c.*) || jsonb_build_object('grown', -amount) INTO loss;
    IF FOUND THEN
        PERFORM llm_add_spent(jsonb_build_array(loss));
    END IF;
END
$$;

-- Charges what is left of leases whose owners were not heard of in time.
CREATE OR REPLACE FUNCTION llm_lose_leases(lease_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    lease llm_leases;
BEGIN
    FOR lease IN
        SELECT * FROM llm_leases l
        WHERE l.lease_id = ANY (lease_ids) AND l.state = 'open' AND l.left_nano > 0
          AND l.expires_at < clock_timestamp()
        ORDER BY l.lease_id FOR UPDATE
    LOOP
        UPDATE llm_leases l SET state = 'lost' WHERE l.lease_id = lease.lease_id;
        PERFORM llm_add_held(jsonb_build_array(jsonb_build_object(
            'project', lease.project, 'limits', lease.limits, 'today', lease.accounted_on,
            'nano', -lease.left_nano)));
        PERFORM llm_add_spent(llm_write_rows(llm_filled(jsonb_build_array(llm_loss_row(lease)))));
    END LOOP;
END
$$;

-- stated: [{lease_id, project, owner, returned_nano, is_closed}], what an owner says of its leases;
-- returned_nano is all that it has ever given back. One that is given back before its grant was
-- seen is written down, so that a grant that comes late finds it closed.
-- answer: [{lease_id, left_nano, recalled}]
CREATE OR REPLACE FUNCTION llm_state_leases(stated jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    said record;
    lease llm_leases;
    answer jsonb := '[]';
BEGIN
    FOR said IN
        SELECT * FROM jsonb_to_recordset(stated)
            AS x (lease_id uuid, project text, owner text, returned_nano bigint, is_closed boolean)
        ORDER BY x.lease_id
    LOOP
        IF said.is_closed THEN
            INSERT INTO llm_leases (lease_id, project, owner, limits, accounted_on, granted_nano,
                                    left_nano, is_closed, ends_at, expires_at)
            VALUES (said.lease_id, said.project, said.owner, '[]', llm_today(said.project), 0, 0, true,
                    clock_timestamp(), clock_timestamp())
            ON CONFLICT (lease_id) DO NOTHING;
        END IF;
        SELECT * INTO lease FROM llm_leases l WHERE l.lease_id = said.lease_id FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        PERFORM llm_draw_leases(jsonb_build_array(jsonb_build_object(
            'lease_id', lease.lease_id, 'nano', said.returned_nano - lease.returned_nano)));
        UPDATE llm_leases l SET
            returned_nano = greatest(l.returned_nano, said.returned_nano),
            is_closed = l.is_closed OR said.is_closed
        WHERE l.lease_id = said.lease_id
        RETURNING * INTO lease;
        answer := answer || jsonb_build_object('lease_id', lease.lease_id, 'left_nano', lease.left_nano,
                                               'recalled', lease.recalled_at IS NOT NULL);
    END LOOP;
    RETURN answer;
END
$$;

-- How the counters of a request stand, for alerts.
CREATE OR REPLACE FUNCTION llm_used(request jsonb) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind,
        'window_start', c.window_start, 'limit_usd', l.limit_usd::text,
        'used_usd', (c.spent_usd + c.held_nano / 1e9::numeric)::text)), '[]')
    FROM llm_request_counters(request) l
    JOIN llm_budget_counters c USING (project, scope, scope_id, window_kind, window_start)
$$;

-- Raises what is held by one request, and notes the limits that it came with.
CREATE OR REPLACE FUNCTION llm_hold(request jsonb, nano bigint) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    UPDATE llm_budget_counters c SET held_nano = c.held_nano + nano, limit_usd = l.limit_usd
    FROM llm_request_counters(request) l
    WHERE c.project = l.project AND c.scope = l.scope AND c.scope_id = l.scope_id
      AND c.window_kind = l.window_kind AND c.window_start = l.window_start
$$;

-- Grants a lease on the counters of a request, which are locked: as much as was wished for, but at
-- most 1 % of each limit and a quarter of this owner's share of what remains; NULL if that is less
-- than it is worth, or while somebody waits for leases of the project that were called back.
-- It ends with the project's day at the latest, which is its windows' end or earlier.
CREATE OR REPLACE FUNCTION llm_take_lease(wanted jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    lease llm_leases;
    live int;
    size bigint;
    ends timestamptz := least(clock_timestamp() + make_interval(secs => (wanted->>'use_s')::float8),
                              llm_day_end(request->>'project', (request->>'today')::date));
BEGIN
    SELECT * INTO lease FROM llm_leases l WHERE l.lease_id = (wanted->>'lease_id')::uuid;
    IF NOT FOUND THEN
        SELECT 1 + count(DISTINCT l.owner) INTO live FROM llm_leases l
        WHERE l.project = request->>'project' AND l.state = 'open' AND l.left_nano > 0
          AND NOT l.is_closed AND l.expires_at > clock_timestamp() AND l.owner <> wanted->>'owner';
        SELECT least((wanted->>'wish_nano')::bigint, min(floor(1e9 * least(
                   l.limit_usd / 100, (l.limit_usd - c.spent_usd - c.held_nano / 1e9::numeric) / (4 * live)
               )))::bigint)
        INTO size
        FROM llm_request_counters(request) l
        JOIN llm_budget_counters c USING (project, scope, scope_id, window_kind, window_start);
        IF size < (wanted->>'floor_nano')::bigint OR ends <= clock_timestamp() OR EXISTS (
            SELECT FROM llm_leases l
            WHERE l.project = request->>'project'
              AND l.recalled_at > clock_timestamp() - interval '2 seconds') THEN
            RETURN NULL;
        END IF;
        INSERT INTO llm_leases (lease_id, project, owner, limits, accounted_on, granted_nano, left_nano,
                                ends_at, expires_at)
        VALUES ((wanted->>'lease_id')::uuid, request->>'project', wanted->>'owner', request->'limits',
                (request->>'today')::date, size, size, ends,
                clock_timestamp() + make_interval(secs => (wanted->>'ttl_s')::float8))
        ON CONFLICT (lease_id) DO NOTHING
        RETURNING * INTO lease;
        IF FOUND THEN
            PERFORM llm_hold(request, size);
        END IF;
    END IF;
    -- Its owner gave it up before it was granted.
    IF lease.is_closed IS NOT FALSE THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'lease_id', lease.lease_id, 'granted_nano', lease.granted_nano, 'accounted_on', lease.accounted_on,
        'lasts_s', extract(epoch FROM lease.ends_at - clock_timestamp()), 'used', llm_used(request));
END
$$;

-- Asks for the leases on a counter back; true while it is worth waiting for their owners. One that
-- has given back what it can holds what is on the wire, and one that does not answer is not heard of.
CREATE OR REPLACE FUNCTION llm_recall(refused jsonb, in_project text) RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    counter jsonb := jsonb_build_array(jsonb_build_object(
        'scope', refused->'scope', 'scope_id', refused->'scope_id', 'window', refused->'window'));
    latest timestamptz;
BEGIN
    UPDATE llm_leases l SET recalled_at = coalesce(l.recalled_at, clock_timestamp())
    WHERE l.project = in_project AND l.state = 'open' AND l.left_nano > 0 AND NOT l.is_closed
      AND l.expires_at > clock_timestamp() AND l.limits @> counter AND l.recalled_at IS NULL;
    SELECT max(l.recalled_at) INTO latest FROM llm_leases l
    WHERE l.project = in_project AND l.state = 'open' AND l.left_nano > 0 AND NOT l.is_closed
      AND l.expires_at > clock_timestamp() AND l.limits @> counter;
    RETURN coalesce(latest > clock_timestamp() - interval '1 second', false);
END
$$;

-- ---------------------------------------------------------------- reserve

-- Grants or refuses one request whose counters are locked; the answer is stored with the hold. The
-- refusal of a patient request is not, while leases are being called back: it is asked again.
CREATE OR REPLACE FUNCTION llm_reserve_one(request jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    bound bigint := (request->>'bound_nano')::bigint;
    answer jsonb;
BEGIN
    SELECT h.answer INTO answer FROM llm_holds h WHERE h.hold_id = (request->>'hold_id')::uuid;
    IF FOUND THEN
        RETURN answer;
    END IF;
    -- The first limit, in the caller's order, that the bound does not fit.
    SELECT jsonb_build_object(
               'granted', false, 'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind,
               'limit_usd', trim_scale(l.limit_usd)::text, 'spent_usd', trim_scale(c.spent_usd)::text,
               'held_usd', trim_scale(c.held_nano / 1e9::numeric)::text)
    INTO answer
    FROM llm_request_counters(request) l
    JOIN llm_budget_counters c USING (project, scope, scope_id, window_kind, window_start)
    WHERE c.spent_usd + (c.held_nano + bound) / 1e9::numeric > l.limit_usd
    ORDER BY l.position LIMIT 1;
    IF answer IS NULL THEN
        PERFORM llm_hold(request, bound);
        answer := jsonb_build_object('granted', true, 'accounted_on', request->'today',
                                     'reserved_at', clock_timestamp(), 'used', llm_used(request));
    ELSIF llm_recall(answer, request->>'project') AND (request->>'patient')::boolean THEN
        RETURN answer || jsonb_build_object('hold_id', request->>'hold_id', 'recalling', true);
    END IF;
    answer := answer || jsonb_build_object('hold_id', request->>'hold_id');
    INSERT INTO llm_holds (hold_id, project, operation_id, attempt_no, bound_nano, state, answer, ledger_row, limits, expires_at)
    VALUES ((request->>'hold_id')::uuid, request->>'project', (request->'row'->>'operation_id')::uuid,
            (request->'row'->>'attempt_no')::int, bound,
            CASE WHEN (answer->>'granted')::boolean THEN 'held' ELSE 'refused' END,
            answer, request->'row', request->'limits',
            clock_timestamp() + make_interval(secs => (request->>'ttl_s')::float8));
    RETURN answer;
END
$$;

-- Requests with their project's today, read once: midnight can't fall between two uses of it.
CREATE OR REPLACE FUNCTION llm_dated(requests jsonb) RETURNS jsonb
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(jsonb_agg(r || jsonb_build_object('today', llm_today(r->>'project')) ORDER BY n), '[]')
    FROM jsonb_array_elements(requests) WITH ORDINALITY AS t (r, n)
$$;

CREATE OR REPLACE FUNCTION llm_lease_ids(stated jsonb) RETURNS uuid[]
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT ARRAY(SELECT (s->>'lease_id')::uuid FROM jsonb_array_elements(coalesce(stated, '[]')) s)
$$;

-- What llm_reserve does once everything is locked.
CREATE OR REPLACE FUNCTION llm_reserve_locked(payload jsonb, requests jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    stated jsonb := llm_state_leases(coalesce(payload->'leases', '[]'));
    lease jsonb;
    request jsonb;
    bound bigint;
    unused bigint := -1;
    results jsonb := '[]';
BEGIN
    IF payload ? 'lease' THEN
        lease := llm_take_lease(payload->'lease', requests->0);
        unused := coalesce((lease->>'granted_nano')::bigint, -1);
    END IF;
    FOR request IN SELECT * FROM jsonb_array_elements(requests) LOOP
        bound := (request->>'bound_nano')::bigint;
        -- One that has an answer keeps it, whatever the lease is now.
        IF bound <= unused AND NOT EXISTS (
            SELECT FROM llm_holds h WHERE h.hold_id = (request->>'hold_id')::uuid) THEN
            unused := unused - bound;
            results := results || jsonb_build_object(
                'hold_id', request->>'hold_id', 'granted', true, 'lease_id', lease->'lease_id',
                'accounted_on', lease->'accounted_on', 'reserved_at', clock_timestamp());
        ELSE
            results := results || llm_reserve_one(request);
        END IF;
    END LOOP;
    RETURN jsonb_build_object('results', results, 'lease', lease, 'leases', stated);
END
$$;

-- payload: {requests: [{hold_id, project, bound_nano, ttl_s, limits: [{scope, scope_id, window,
-- limit_usd}], row: {ledger row as it stands if nothing more is heard}, patient}],
-- lease: {lease_id, owner, wish_nano, floor_nano, use_s, ttl_s}, where all requests have the same
-- limits, leases: what the owner states}
-- answer: {results: [{hold_id, granted, accounted_on, reserved_at} and used or lease_id, or {hold_id,
-- granted: false, …, recalling}], lease: {lease_id, granted_nano, accounted_on, lasts_s, used} or null,
-- leases}. Requests are served from the lease, in order, as far as it goes, the others by holds.
CREATE OR REPLACE FUNCTION llm_reserve(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    requests jsonb := llm_dated(payload->'requests');
BEGIN
    PERFORM llm_make_counters(requests);
    PERFORM llm_lock(requests, '[]', llm_lease_ids(payload->'leases'));
    RETURN llm_reserve_locked(payload, requests);
END
$$;

-- ---------------------------------------------------------------- settle

-- What rows do once everything is locked.
CREATE OR REPLACE FUNCTION llm_settle_locked(ledger_rows jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    written jsonb := llm_write_rows(ledger_rows);
    used jsonb;
BEGIN
    PERFORM llm_add_spent(written);
    PERFORM llm_end_holds(ledger_rows);
    SELECT jsonb_agg(jsonb_build_object('lease_id', r->'lease_id', 'nano', r->'used_nano')) INTO used
    FROM jsonb_array_elements(written) r WHERE r->>'lease_id' IS NOT NULL;
    IF used IS NOT NULL THEN
        PERFORM llm_draw_leases(used);
    END IF;
END
$$;

-- Holds whose owner was not heard of in time, as rows that charge them.
CREATE OR REPLACE FUNCTION llm_expired_rows(projects text[]) RETURNS jsonb
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT coalesce(jsonb_agg(h.ledger_row || jsonb_build_object(
        'status', 'estimated', 'cost_source', 'estimated', 'error_class', 'HoldExpired',
        'cost_usd', (h.bound_nano / 1e9::numeric)::text,
        'timestamp', h.answer->'reserved_at', 'accounted_on', h.answer->'accounted_on')), '[]')
    FROM llm_holds h
    WHERE h.project = ANY (projects) AND h.state = 'held' AND h.expires_at < clock_timestamp()
$$;

CREATE OR REPLACE FUNCTION llm_expired_leases(projects text[]) RETURNS uuid[]
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT ARRAY(
        SELECT l.lease_id FROM llm_leases l
        WHERE l.project = ANY (projects) AND l.state = 'open' AND l.left_nano > 0
          AND l.expires_at < clock_timestamp())
$$;

-- Removes holds and leases that are over, a day after nobody can ask for their answer any more.
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

-- payload: {rows: [ledger row by column name, money as text; one of a lease with lease_id and
-- bound_nano], leases: what the owner states of its leases, projects: more projects to look after}
-- answer: {settled: number of rows, leases}. Calling twice changes nothing. What has expired in the
-- projects is charged as well.
CREATE OR REPLACE FUNCTION llm_settle(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    stated jsonb := coalesce(payload->'leases', '[]');
    projects text[] := ARRAY(
        SELECT e->>'project' FROM jsonb_array_elements((payload->'rows') || stated) e
        UNION SELECT p FROM jsonb_array_elements_text(coalesce(payload->'projects', '[]')) p);
    ledger_rows jsonb := llm_filled((payload->'rows') || llm_expired_rows(projects));
    lost uuid[] := llm_expired_leases(projects);
BEGIN
    PERFORM llm_lock('[]', ledger_rows, lost || llm_lease_ids(stated));
    PERFORM llm_settle_locked(ledger_rows);
    stated := llm_state_leases(stated);
    PERFORM llm_lose_leases(lost);
    PERFORM llm_clean_up();
    RETURN jsonb_build_object('settled', jsonb_array_length(payload->'rows'), 'leases', stated);
END
$$;

-- payload: {project}. Holds and leases whose owner was not heard of in time are charged as estimated,
-- not freed.
-- answer: {expired: number of holds and leases}
CREATE OR REPLACE FUNCTION llm_expire_holds(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    projects text[] := ARRAY[payload->>'project'];
    expired int := jsonb_array_length(llm_expired_rows(projects)) + cardinality(llm_expired_leases(projects));
BEGIN
    IF expired > 0 THEN
        PERFORM llm_settle(jsonb_build_object('rows', '[]'::jsonb, 'projects', projects));
    END IF;
    RETURN jsonb_build_object('expired', expired);
END
$$;

-- payload: {requests: as for llm_reserve, rows: ledger rows of attempts that no limit concerns}
-- answer: as of llm_reserve. For hosts without a disk of their own: what is granted is in the ledger
-- as estimated before it is sent, in one transaction for all who ask at the same time.
CREATE OR REPLACE FUNCTION llm_intend(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    requests jsonb := llm_dated(payload->'requests');
    free jsonb := llm_filled(payload->'rows');
    wanted jsonb;
    granted jsonb;
    answer jsonb;
BEGIN
    SELECT llm_filled(coalesce(jsonb_agg((r->'row') || jsonb_build_object('accounted_on', r->'today')), '[]'))
    INTO wanted FROM jsonb_array_elements(requests) r;
    PERFORM llm_make_counters(requests);
    PERFORM llm_lock(requests, free || wanted, llm_lease_ids(payload->'leases'));
    answer := llm_reserve_locked(payload, requests);
    SELECT llm_filled(coalesce(jsonb_agg((t.request->'row') || jsonb_build_object(
               'accounted_on', t.result->'accounted_on', 'timestamp', t.result->'reserved_at')), '[]'))
    INTO granted
    FROM ROWS FROM (jsonb_array_elements(requests), jsonb_array_elements(answer->'results'))
        AS t (request, result)
    WHERE (t.result->>'granted')::boolean;
    PERFORM llm_settle_locked(free || granted);
    RETURN answer;
END
$$;

-- Their work is done for whole batches now.
SELECT llm_drop_functions(ARRAY['llm_write_ledger', 'llm_end_hold', 'llm_lock_for_settle']);

SELECT llm_lock_down(
    ARRAY['llm_leases'],
    ARRAY['llm_is_timezone', 'llm_day_end', 'llm_row_counters', 'llm_loss_row', 'llm_lock', 'llm_add_held',
          'llm_add_spent', 'llm_filled', 'llm_used_nano', 'llm_write_rows', 'llm_end_holds',
          'llm_draw_leases', 'llm_shrink_loss', 'llm_lose_leases', 'llm_state_leases', 'llm_used',
          'llm_hold', 'llm_take_lease', 'llm_recall', 'llm_reserve_one', 'llm_dated', 'llm_lease_ids',
          'llm_reserve_locked', 'llm_reserve', 'llm_settle_locked', 'llm_expired_rows',
          'llm_expired_leases', 'llm_clean_up', 'llm_settle', 'llm_expire_holds', 'llm_intend']);

NOTIFY pgrst, 'reload schema';
