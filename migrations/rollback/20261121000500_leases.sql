-- What open leases hold goes back to the counters; lost ones stay charged in the ledger.
SELECT llm_add_held(coalesce(jsonb_agg(jsonb_build_object(
    'project', l.project, 'limits', l.limits, 'today', l.accounted_on, 'nano', -l.left_nano)), '[]'))
FROM llm_leases l WHERE l.state = 'open' AND l.left_nano > 0;

DROP FUNCTION IF EXISTS llm_intend(jsonb);
DROP FUNCTION IF EXISTS llm_clean_up();
DROP FUNCTION IF EXISTS llm_expired_leases(text[]);
DROP FUNCTION IF EXISTS llm_expired_rows(text[]);
DROP FUNCTION IF EXISTS llm_settle_locked(jsonb);
DROP FUNCTION IF EXISTS llm_reserve_locked(jsonb, jsonb);
DROP FUNCTION IF EXISTS llm_lease_ids(jsonb);
DROP FUNCTION IF EXISTS llm_dated(jsonb);
DROP FUNCTION IF EXISTS llm_recall(jsonb, text);
DROP FUNCTION IF EXISTS llm_take_lease(jsonb, jsonb);
DROP FUNCTION IF EXISTS llm_hold(jsonb, bigint);
DROP FUNCTION IF EXISTS llm_used(jsonb);
DROP FUNCTION IF EXISTS llm_state_leases(jsonb);
DROP FUNCTION IF EXISTS llm_lose_leases(uuid[]);
DROP FUNCTION IF EXISTS llm_shrink_loss(uuid, numeric);
DROP FUNCTION IF EXISTS llm_draw_leases(jsonb);
DROP FUNCTION IF EXISTS llm_end_holds(jsonb);
DROP FUNCTION IF EXISTS llm_write_rows(jsonb);
DROP FUNCTION IF EXISTS llm_used_nano(jsonb);
DROP FUNCTION IF EXISTS llm_filled(jsonb);
DROP FUNCTION IF EXISTS llm_add_spent(jsonb);
DROP FUNCTION IF EXISTS llm_add_held(jsonb);
DROP FUNCTION IF EXISTS llm_lock(jsonb, jsonb, uuid[]);
DROP FUNCTION IF EXISTS llm_loss_row(llm_leases);
DROP FUNCTION IF EXISTS llm_row_counters(jsonb);
DROP FUNCTION IF EXISTS llm_day_end(text, date);
DROP TABLE IF EXISTS llm_leases;
DROP INDEX IF EXISTS llm_holds_done;
ALTER TABLE llm_projects DROP CONSTRAINT IF EXISTS llm_projects_timezone_check;
DROP FUNCTION IF EXISTS llm_is_timezone(text);

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

SELECT llm_lock_down(ARRAY[]::text[], ARRAY['llm_write_ledger', 'llm_end_hold', 'llm_lock_for_settle']);
