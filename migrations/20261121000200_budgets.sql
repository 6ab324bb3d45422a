-- Budgets: counters and holds, and the two functions that move money.
-- Lock order everywhere: project gate (advisory), counters sorted by key, then ledger rows.

CREATE TABLE IF NOT EXISTS llm_budget_counters (
    project      text    NOT NULL,
    scope        text    NOT NULL CHECK (scope IN ('project', 'user', 'task', 'model', 'run', 'job', 'tag')),
    scope_id     text    NOT NULL,
    window_kind  text    NOT NULL CHECK (window_kind IN ('day', 'month', 'total')),
    window_start date    NOT NULL,
    limit_usd    numeric(20, 12) NOT NULL,
    spent_usd    numeric(20, 12) NOT NULL DEFAULT 0,
    held_nano    bigint  NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    PRIMARY KEY (project, scope, scope_id, window_kind, window_start)
);

CREATE TABLE IF NOT EXISTS llm_holds (
    hold_id      uuid PRIMARY KEY,
    project      text    NOT NULL,
    operation_id uuid    NOT NULL,
    attempt_no   int     NOT NULL,
    bound_nano   bigint  NOT NULL CHECK (bound_nano >= 0),
    state        text    NOT NULL CHECK (state IN ('held', 'settled', 'refused')),
    answer       jsonb   NOT NULL,
    ledger_row   jsonb   NOT NULL,
    limits       jsonb   NOT NULL,
    expires_at   timestamptz NOT NULL,
    UNIQUE (operation_id, attempt_no, hold_id)
);

CREATE INDEX IF NOT EXISTS llm_holds_open ON llm_holds (project, expires_at) WHERE state = 'held';

-- First day of the window that a day falls into; one fixed day for a total.
CREATE OR REPLACE FUNCTION llm_window_start(window_kind text, on_day date) RETURNS date
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT CASE window_kind
        WHEN 'day' THEN on_day
        WHEN 'month' THEN date_trunc('month', on_day::timestamp)::date
        ELSE date '2000-01-01'
    END
$$;

-- The scopes that a ledger row counts in.
CREATE OR REPLACE FUNCTION llm_row_scopes(ledger_row jsonb) RETURNS TABLE (scope text, scope_id text)
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT s.scope, s.scope_id
    FROM (VALUES
        ('project', ledger_row->>'project'),
        ('user', ledger_row->>'user_id'),
        ('task', ledger_row->>'task'),
        ('model', ledger_row->>'requested_model'),
        ('run', ledger_row->>'run_id'),
        ('job', ledger_row->>'job_id')
    ) AS s (scope, scope_id)
    WHERE s.scope_id IS NOT NULL
    UNION
    SELECT 'tag', t FROM jsonb_array_elements_text(
        CASE jsonb_typeof(ledger_row->'tags') WHEN 'array' THEN ledger_row->'tags' ELSE '[]' END) AS t
$$;

-- What a scope has spent in a window, from the ledger; used once, when its counter is made.
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

-- Makes the counters that a batch of requests needs and does not find. The gate keeps settlements
-- of the project out meanwhile: one that did not see the new counter would be missing from it.
CREATE OR REPLACE FUNCTION llm_make_counters(requests jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    missing record;
BEGIN
    FOR missing IN
        SELECT DISTINCT r->>'project' AS project, l->>'scope' AS scope, l->>'scope_id' AS scope_id,
               l->>'window' AS window_kind,
               llm_window_start(l->>'window', (r->>'today')::date) AS window_start,
               (l->>'limit_usd')::numeric AS limit_usd
        FROM jsonb_array_elements(requests) r, jsonb_array_elements(r->'limits') l
        ORDER BY 1, 2, 3, 4, 5
    LOOP
        IF EXISTS (
            SELECT FROM llm_budget_counters c
            WHERE c.project = missing.project AND c.scope = missing.scope
              AND c.scope_id = missing.scope_id AND c.window_kind = missing.window_kind
              AND c.window_start = missing.window_start) THEN
            CONTINUE;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('llm_common:' || missing.project, 0));
        INSERT INTO llm_budget_counters (project, scope, scope_id, window_kind, window_start, limit_usd, spent_usd)
        VALUES (missing.project, missing.scope, missing.scope_id, missing.window_kind,
                missing.window_start, missing.limit_usd,
                llm_ledger_sum(missing.project, missing.scope, missing.scope_id,
                               missing.window_kind, missing.window_start))
        ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- The counters that a request is held against, in the caller's order.
CREATE OR REPLACE FUNCTION llm_request_counters(request jsonb)
RETURNS TABLE (project text, scope text, scope_id text, window_kind text, window_start date,
               limit_usd numeric, "position" bigint)
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT request->>'project', l->>'scope', l->>'scope_id', l->>'window',
           llm_window_start(l->>'window', (request->>'today')::date), (l->>'limit_usd')::numeric, n
    FROM jsonb_array_elements(request->'limits') WITH ORDINALITY AS t (l, n)
$$;

-- Grants or refuses one request whose counters are locked; the answer is stored with the hold.
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
        UPDATE llm_budget_counters c
        SET held_nano = c.held_nano + bound, limit_usd = l.limit_usd
        FROM llm_request_counters(request) l
        WHERE (c.project, c.scope, c.scope_id, c.window_kind, c.window_start)
            = (l.project, l.scope, l.scope_id, l.window_kind, l.window_start);
        SELECT jsonb_build_object('granted', true, 'accounted_on', request->'today',
                   'reserved_at', clock_timestamp(),
                   'used', coalesce(jsonb_agg(jsonb_build_object(
                       'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind,
                       'window_start', c.window_start, 'limit_usd', l.limit_usd::text,
                       'used_usd', (c.spent_usd + c.held_nano / 1e9::numeric)::text)), '[]'))
        INTO answer
        FROM llm_request_counters(request) l
        JOIN llm_budget_counters c USING (project, scope, scope_id, window_kind, window_start);
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

-- payload: {requests: [{hold_id, project, bound_nano, ttl_s, limits: [{scope, scope_id, window,
-- limit_usd}], row: {ledger row as it stands if nothing more is heard}}]}
-- answer: {results: [{hold_id, granted, accounted_on, reserved_at, used} or {hold_id, granted: false, …}]}
CREATE OR REPLACE FUNCTION llm_reserve(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    requests jsonb;
    request jsonb;
    results jsonb := '[]';
BEGIN
    -- The day is read once, so that midnight can't fall between making, locking and checking.
    SELECT jsonb_agg(r || jsonb_build_object('today', llm_today(r->>'project'))) INTO requests
    FROM jsonb_array_elements(payload->'requests') r;
    PERFORM llm_make_counters(requests);
    PERFORM 1 FROM llm_budget_counters c
    WHERE (c.project, c.scope, c.scope_id, c.window_kind, c.window_start) IN (
        SELECT k.project, k.scope, k.scope_id, k.window_kind, k.window_start
        FROM jsonb_array_elements(requests) r, llm_request_counters(r) k)
    ORDER BY c.project, c.scope, c.scope_id, c.window_kind, c.window_start
    FOR UPDATE;
    FOR request IN SELECT * FROM jsonb_array_elements(requests) LOOP
        results := results || llm_reserve_one(request);
    END LOOP;
    RETURN jsonb_build_object('results', results);
END
$$;

-- Writes one ledger row by precedence and returns by how much the spend grew.
-- An estimate gives way to what is learned later; a final row never changes.
CREATE OR REPLACE FUNCTION llm_write_ledger(r cost_tracking) RETURNS numeric
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    old cost_tracking;
BEGIN
    INSERT INTO cost_tracking SELECT r.* ON CONFLICT (operation_id, attempt_no) DO NOTHING;
    IF FOUND THEN
        RETURN coalesce(r.cost_usd, 0);
    END IF;
    SELECT * INTO old FROM cost_tracking c
    WHERE c.operation_id = r.operation_id AND c.attempt_no = r.attempt_no FOR UPDATE;
    IF old.cost_source IS DISTINCT FROM 'estimated' OR r.cost_source IS NOT DISTINCT FROM 'estimated' THEN
        RETURN 0;
    END IF;
    UPDATE cost_tracking c SET
        status = r.status, error_class = r.error_class, model = r.model, cost_usd = r.cost_usd,
        cost_source = r.cost_source, price_version = r.price_version, tokens_used = r.tokens_used,
        input_tokens = r.input_tokens, output_tokens = r.output_tokens,
        cached_input_tokens = r.cached_input_tokens, cache_write_tokens = r.cache_write_tokens,
        reasoning_tokens = r.reasoning_tokens, latency_ms = r.latency_ms, over_hold = r.over_hold
    WHERE c.id = old.id;
    RETURN coalesce(r.cost_usd, 0) - coalesce(old.cost_usd, 0);
END
$$;

-- Takes a hold down, if it still stands; a settlement never needs it to.
CREATE OR REPLACE FUNCTION llm_end_hold(in_operation uuid, in_attempt int) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    hold llm_holds;
BEGIN
    FOR hold IN
        UPDATE llm_holds h SET state = 'settled'
        WHERE h.operation_id = in_operation AND h.attempt_no = in_attempt AND h.state = 'held'
        RETURNING h.*
    LOOP
        UPDATE llm_budget_counters c SET held_nano = c.held_nano - hold.bound_nano
        FROM llm_request_counters(
            jsonb_build_object('project', hold.project, 'limits', hold.limits,
                               'today', hold.answer->'accounted_on')) l
        WHERE (c.project, c.scope, c.scope_id, c.window_kind, c.window_start)
            = (l.project, l.scope, l.scope_id, l.window_kind, l.window_start);
    END LOOP;
END
$$;

-- Locks, in order, the gate of each project and every counter that the rows count in.
CREATE OR REPLACE FUNCTION llm_lock_for_settle(ledger_rows jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    p text;
BEGIN
    FOR p IN SELECT DISTINCT r->>'project' FROM jsonb_array_elements(ledger_rows) r ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock_shared(hashtextextended('llm_common:' || p, 0));
    END LOOP;
    PERFORM 1 FROM llm_budget_counters c
    WHERE (c.project, c.scope, c.scope_id) IN (
        SELECT r->>'project', s.scope, s.scope_id
        FROM jsonb_array_elements(ledger_rows) r, llm_row_scopes(r) s)
    ORDER BY c.project, c.scope, c.scope_id, c.window_kind, c.window_start
    FOR UPDATE;
END
$$;

-- payload: {rows: [ledger row by column name, money as text]}
-- answer: {settled: number of rows}. Calling twice changes nothing.
CREATE OR REPLACE FUNCTION llm_settle(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    raw jsonb;
    r cost_tracking;
    grown numeric;
BEGIN
    PERFORM llm_lock_for_settle(payload->'rows');
    FOR raw IN
        SELECT e FROM jsonb_array_elements(payload->'rows') e
        ORDER BY e->>'operation_id', (e->>'attempt_no')::int
    LOOP
        r := jsonb_populate_record(NULL::cost_tracking, raw);
        r.id := coalesce(r.id, gen_random_uuid());
        r.timestamp := coalesce(r.timestamp, clock_timestamp());
        r.accounted_on := coalesce(r.accounted_on, llm_day_of(r.project, r.timestamp));
        r.over_hold := coalesce(r.over_hold, false);
        grown := llm_write_ledger(r);
        PERFORM llm_end_hold(r.operation_id, r.attempt_no);
        IF grown <> 0 THEN
            UPDATE llm_budget_counters c SET spent_usd = c.spent_usd + grown
            FROM llm_row_scopes(raw) s
            WHERE c.project = r.project AND c.scope = s.scope AND c.scope_id = s.scope_id
              AND c.window_start = llm_window_start(c.window_kind, r.accounted_on);
        END IF;
    END LOOP;
    RETURN jsonb_build_object('settled', jsonb_array_length(payload->'rows'));
END
$$;

-- The day, in the project's zone, that a moment is accounted on.
CREATE OR REPLACE FUNCTION llm_day_of(in_project text, moment timestamptz) RETURNS date
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT (moment AT TIME ZONE coalesce(
        (SELECT p.timezone FROM llm_projects p WHERE p.project = in_project), 'UTC'))::date
$$;

-- payload: {project}. Holds whose owner was not heard of in time are charged as estimated, not freed.
-- answer: {expired: number of holds}
CREATE OR REPLACE FUNCTION llm_expire_holds(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    expired jsonb;
BEGIN
    SELECT coalesce(jsonb_agg(h.ledger_row || jsonb_build_object(
               'status', 'estimated', 'cost_source', 'estimated', 'error_class', 'HoldExpired',
               'cost_usd', (h.bound_nano / 1e9::numeric)::text,
               'timestamp', h.answer->'reserved_at', 'accounted_on', h.answer->'accounted_on')), '[]')
    INTO expired
    FROM llm_holds h
    WHERE h.project = payload->>'project' AND h.state = 'held' AND h.expires_at < clock_timestamp();
    PERFORM llm_settle(jsonb_build_object('rows', expired));
    RETURN jsonb_build_object('expired', jsonb_array_length(expired));
END
$$;

-- payload: {project}
-- answer: {today, budgets: [{scope, scope_id, window, window_start, limit_usd, spent_usd, held_usd}]}
CREATE OR REPLACE FUNCTION llm_budget_status(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('today', llm_today(payload->>'project'), 'budgets', coalesce(jsonb_agg(jsonb_build_object(
        'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind,
        'window_start', c.window_start, 'limit_usd', trim_scale(c.limit_usd)::text,
        'spent_usd', trim_scale(c.spent_usd)::text,
        'held_usd', trim_scale(c.held_nano / 1e9::numeric)::text)
        ORDER BY c.scope, c.scope_id, c.window_kind), '[]'))
    FROM llm_budget_counters c
    WHERE c.project = payload->>'project'
      AND (c.window_kind = 'total'
           OR c.window_start = llm_window_start(c.window_kind, llm_today(payload->>'project')))
$$;

SELECT llm_lock_down(
    ARRAY['llm_budget_counters', 'llm_holds'],
    ARRAY['llm_window_start', 'llm_row_scopes', 'llm_ledger_sum', 'llm_make_counters', 'llm_reserve_one',
          'llm_request_counters', 'llm_reserve', 'llm_write_ledger', 'llm_end_hold', 'llm_lock_for_settle',
          'llm_settle', 'llm_day_of', 'llm_expire_holds', 'llm_budget_status']);
