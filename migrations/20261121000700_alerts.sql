-- Alerts about budgets, through an outbox; what admins compare: prompt versions, and the ledger with
-- everything that should agree with it.
-- An alert is raised in the transaction that moves the money, whoever moves it, so it survives every
-- crash after that. Lock order: outbox rows come after counters and ledger rows.

CREATE TABLE IF NOT EXISTS llm_outbox (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    project       text NOT NULL,
    topic         text NOT NULL,
    key           text NOT NULL,
    body          jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts      int NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    claim_id      uuid,
    claimed_until timestamptz,
    channel       text,
    last_error    text,
    finished_at   timestamptz,
    UNIQUE (project, topic, key)
);

CREATE INDEX IF NOT EXISTS llm_outbox_pending ON llm_outbox (project, due_at) WHERE state = 'pending';

-- Thresholds beside 50, 80 and 100 %, by limit.
CREATE TABLE IF NOT EXISTS llm_alert_rules (
    project     text NOT NULL,
    scope       text NOT NULL,
    scope_id    text NOT NULL,
    window_kind text NOT NULL,
    threshold   numeric NOT NULL CHECK (threshold BETWEEN 0 AND 1),
    PRIMARY KEY (project, scope, scope_id, window_kind, threshold)
);

-- ---------------------------------------------------------------- raising

-- One alert per budget, period and kind; a second one is not an alert.
CREATE OR REPLACE FUNCTION llm_raise_alert(counter llm_budget_counters, kind text, threshold numeric) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    INSERT INTO llm_outbox (project, topic, key, body)
    VALUES (counter.project, 'budget',
            jsonb_build_array(counter.scope, counter.scope_id, counter.window_kind, counter.window_start,
                              kind, trim_scale(threshold)::text)::text,
            jsonb_build_object(
                'kind', kind, 'scope', counter.scope, 'scope_id', counter.scope_id,
                'window', counter.window_kind, 'window_start', counter.window_start,
                'threshold', trim_scale(threshold)::text,
                'limit_usd', trim_scale(counter.limit_usd)::text,
                'spent_usd', trim_scale(counter.spent_usd)::text))
    ON CONFLICT (project, topic, key) DO NOTHING
$$;

-- Raises what a counter has crossed and has not been raised yet. The limit may have fallen, a rule may
-- be new and money may come in leaps, so every threshold below the spend counts, not just the last one.
CREATE OR REPLACE FUNCTION llm_raise_crossed(counter llm_budget_counters) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT llm_raise_alert(counter, 'threshold', t.threshold)
    FROM (
        SELECT unnest(ARRAY[0.5, 0.8, 1]) AS threshold
        UNION
        SELECT r.threshold FROM llm_alert_rules r
        WHERE (r.project, r.scope, r.scope_id, r.window_kind)
            = (counter.project, counter.scope, counter.scope_id, counter.window_kind)
        ORDER BY 1
    ) t
    WHERE counter.spent_usd > 0 AND counter.spent_usd >= t.threshold * counter.limit_usd
$$;

CREATE OR REPLACE FUNCTION llm_on_spend() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    PERFORM llm_raise_crossed(NEW);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER llm_counter_made AFTER INSERT ON llm_budget_counters
    FOR EACH ROW WHEN (NEW.spent_usd > 0) EXECUTE FUNCTION llm_on_spend();
-- Grants set limit_usd too, mostly to what it was.
CREATE OR REPLACE TRIGGER llm_counter_moved AFTER UPDATE OF spent_usd, limit_usd ON llm_budget_counters
    FOR EACH ROW WHEN (NEW.spent_usd > OLD.spent_usd OR NEW.limit_usd < OLD.limit_usd)
    EXECUTE FUNCTION llm_on_spend();

-- A strict budget is rarely spent to the last cent: what remains is less than a call may cost. So a
-- refusal when 95 % are spent says 100 %; an earlier one, of a call too large for what is left or while
-- others hold it, is an alert of its own kind.
CREATE OR REPLACE FUNCTION llm_on_refusal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    counter llm_budget_counters;
BEGIN
    SELECT c.* INTO counter FROM llm_budget_counters c
    WHERE c.project = NEW.project AND c.scope = NEW.answer->>'scope'
      AND c.scope_id = NEW.answer->>'scope_id' AND c.window_kind = NEW.answer->>'window'
    ORDER BY c.window_start DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- The limit that refused is the caller's; the counter has that of the last grant.
    counter.limit_usd := (NEW.answer->>'limit_usd')::numeric;
    IF counter.spent_usd > 0 AND counter.spent_usd >= 0.95 * counter.limit_usd THEN
        PERFORM llm_raise_alert(counter, 'threshold', 1);
    ELSE
        PERFORM llm_raise_alert(counter, 'refused', NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER llm_hold_refused AFTER INSERT ON llm_holds
    FOR EACH ROW WHEN (NEW.state = 'refused') EXECUTE FUNCTION llm_on_refusal();

-- payload: {rules: [{project, scope, scope_id, window, threshold}]}
-- Registers thresholds and raises what is beyond them already in a window that still runs.
CREATE OR REPLACE FUNCTION llm_watch_budgets(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO llm_alert_rules (project, scope, scope_id, window_kind, threshold)
    SELECT r->>'project', r->>'scope', r->>'scope_id', r->>'window', trim_scale((r->>'threshold')::numeric)
    FROM jsonb_array_elements(payload->'rules') r
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT DO NOTHING;
    PERFORM llm_raise_crossed(c)
    FROM llm_budget_counters c
    WHERE (c.project, c.scope, c.scope_id, c.window_kind) IN (
            SELECT r->>'project', r->>'scope', r->>'scope_id', r->>'window'
            FROM jsonb_array_elements(payload->'rules') r)
      AND c.window_start = llm_window_start(c.window_kind, llm_today(c.project));
    RETURN jsonb_build_object('rules', jsonb_array_length(payload->'rules'));
END
$$;

-- ---------------------------------------------------------------- delivering

-- payload: {claim_id, projects: [...], lease_s}
-- answer: {message: {id, project, topic, body, attempt} or null, waiting: one is not due yet, or with
-- another claimant}. Each message has one claimant at a
-- time; one that says nothing until its lease ends is dead. Asking again with the same claim_id gives
-- the same message.
CREATE OR REPLACE FUNCTION llm_outbox_claim(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    message llm_outbox;
BEGIN
    SELECT o.* INTO message FROM llm_outbox o
    WHERE o.state = 'pending' AND o.claim_id = (payload->>'claim_id')::uuid
      AND o.project IN (SELECT jsonb_array_elements_text(payload->'projects'));
    IF NOT FOUND THEN
        UPDATE llm_outbox o
        SET claim_id = (payload->>'claim_id')::uuid, attempts = o.attempts + 1,
            claimed_until = clock_timestamp() + make_interval(secs => (payload->>'lease_s')::float8)
        WHERE o.id = (
            SELECT p.id FROM llm_outbox p
            WHERE p.state = 'pending' AND p.due_at <= clock_timestamp()
              AND p.project IN (SELECT jsonb_array_elements_text(payload->'projects'))
              AND (p.claimed_until IS NULL OR p.claimed_until <= clock_timestamp())
            ORDER BY p.created_at, p.id LIMIT 1
            FOR UPDATE SKIP LOCKED)
        RETURNING o.* INTO message;
    END IF;
    RETURN jsonb_build_object('message', CASE WHEN message.id IS NOT NULL THEN jsonb_build_object(
        'id', message.id, 'project', message.project, 'topic', message.topic, 'body', message.body,
        'attempt', message.attempts) END,
        'waiting', EXISTS (
            SELECT FROM llm_outbox o WHERE o.state = 'pending' AND o.id IS DISTINCT FROM message.id
              AND o.project IN (SELECT jsonb_array_elements_text(payload->'projects'))));
END
$$;

-- payload: {id, claim_id, channel, error: class or null}
-- answer: {state}. A failure is tried again after 30 s, then after twice as long each time up to an hour;
-- the tenth, about three hours after the first, is the last. Who lost the claim changes nothing.
CREATE OR REPLACE FUNCTION llm_outbox_done(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    failed boolean := payload->>'error' IS NOT NULL;
    now_state text;
BEGIN
    UPDATE llm_outbox o
    SET state = CASE WHEN NOT failed THEN 'delivered' WHEN o.attempts >= 10 THEN 'failed' ELSE 'pending' END,
        channel = payload->>'channel', last_error = payload->>'error',
        finished_at = CASE WHEN NOT failed OR o.attempts >= 10 THEN clock_timestamp() END,
        due_at = clock_timestamp()
                 + make_interval(secs => CASE WHEN failed THEN least(30 * 2 ^ (o.attempts - 1), 3600) ELSE 0 END),
        claim_id = NULL, claimed_until = NULL
    WHERE o.id = (payload->>'id')::uuid AND o.state = 'pending'
      AND o.claim_id = (payload->>'claim_id')::uuid
    RETURNING o.state INTO now_state;
    IF now_state IS NULL THEN
        SELECT o.state INTO now_state FROM llm_outbox o WHERE o.id = (payload->>'id')::uuid;
    END IF;
    RETURN jsonb_build_object('state', now_state);
END
$$;

-- payload: {project, limit}
-- answer: {alerts: [{id, body, state, attempts, created_at, finished_at, channel, last_error}]}, the newest first
CREATE OR REPLACE FUNCTION llm_alerts(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('alerts', coalesce(jsonb_agg(jsonb_build_object(
        'id', o.id, 'body', o.body, 'state', o.state, 'attempts', o.attempts, 'created_at', o.created_at,
        'finished_at', o.finished_at, 'channel', o.channel, 'last_error', o.last_error)
        ORDER BY o.created_at DESC, o.id), '[]'))
    FROM (
        SELECT * FROM llm_outbox o WHERE o.project = payload->>'project' AND o.topic = 'budget'
        ORDER BY o.created_at DESC, o.id LIMIT (payload->>'limit')::int
    ) o
$$;

-- ---------------------------------------------------------------- comparing

-- What each open lease of a process holds of each of its counters; nothing where the schema has no leases.
CREATE OR REPLACE FUNCTION llm_leased(in_project text)
RETURNS TABLE (lease_id uuid, scope text, scope_id text, window_kind text, window_start date, nano numeric,
               expires_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    IF to_regclass('llm_leases') IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE
        'SELECT l.lease_id, k.scope, k.scope_id, k.window_kind, k.window_start, l.left_nano::numeric, l.expires_at
         FROM llm_leases l, llm_request_counters(jsonb_build_object(
             ''project'', l.project, ''limits'', l.limits, ''today'', l.accounted_on)) k
         WHERE l.project = $1 AND l.state = ''open'' AND l.left_nano > 0'
    USING in_project;
END
$$;

-- What should be held of each counter: its open holds and its leases.
CREATE OR REPLACE FUNCTION llm_held_by_rows(in_project text)
RETURNS TABLE (scope text, scope_id text, window_kind text, window_start date, nano numeric)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT k.scope, k.scope_id, k.window_kind, k.window_start, sum(k.nano)
    FROM (
        SELECT l.scope, l.scope_id, l.window_kind, l.window_start, h.bound_nano::numeric AS nano
        FROM llm_holds h, llm_request_counters(jsonb_build_object(
            'project', h.project, 'limits', h.limits, 'today', h.answer->'accounted_on')) l
        WHERE h.project = in_project AND h.state = 'held'
        UNION ALL
        SELECT l.scope, l.scope_id, l.window_kind, l.window_start, l.nano FROM llm_leased(in_project) l
    ) k
    GROUP BY 1, 2, 3, 4
$$;

-- payload: {project, start, end}; both days are included.
-- answer: {counters: [what differs: {scope, scope_id, window, window_start, spent_usd, ledger_usd, held_usd,
-- rows_usd, counted}], expired: [{operation_id, attempt_no, usd, expires_at}], settled: [the same, of holds
-- whose ledger row is there], leases: [{lease_id, usd, expires_at} of expired ones], estimated: {rows, usd}, unpriced}
-- One statement, so one snapshot: money that moves meanwhile differs nowhere.
CREATE OR REPLACE FUNCTION llm_reconcile(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    WITH asked AS (
        SELECT payload->>'project' AS project, (payload->>'start')::date AS first, (payload->>'end')::date AS last
    ), counted AS (
        SELECT c.*, true AS is_counter,
               llm_ledger_sum(c.project, c.scope, c.scope_id, c.window_kind, c.window_start) AS ledger_usd
        FROM llm_budget_counters c, asked a
        WHERE c.project = a.project AND (c.window_kind = 'total' OR (c.window_start <= a.last
              AND c.window_start >= llm_window_start(c.window_kind, a.first)))
    ), held AS (
        SELECT h.* FROM llm_held_by_rows(payload->>'project') h, asked a
        WHERE h.window_kind = 'total' OR (h.window_start <= a.last
              AND h.window_start >= llm_window_start(h.window_kind, a.first))
    ), compared AS (
        SELECT scope, scope_id, window_kind, window_start, coalesce(c.spent_usd, 0) AS spent_usd,
               coalesce(c.ledger_usd, 0) AS ledger_usd, coalesce(c.held_nano, 0) AS held_nano,
               coalesce(h.nano, 0) AS rows_nano, coalesce(c.is_counter, false) AS is_counter
        FROM counted c FULL JOIN held h USING (scope, scope_id, window_kind, window_start)
    ), open AS (
        SELECT h.*, EXISTS (
            SELECT FROM cost_tracking t
            WHERE t.operation_id = h.operation_id AND t.attempt_no = h.attempt_no) AS has_row
        FROM llm_holds h, asked a
        WHERE h.project = a.project AND h.state = 'held'
    )
    SELECT jsonb_build_object(
        'counters', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'scope', scope, 'scope_id', scope_id, 'window', window_kind, 'window_start', window_start,
                'spent_usd', trim_scale(spent_usd)::text, 'ledger_usd', trim_scale(ledger_usd)::text,
                'held_usd', trim_scale(held_nano / 1e9::numeric)::text,
                'rows_usd', trim_scale(rows_nano / 1e9::numeric)::text, 'counted', is_counter)
                ORDER BY scope, scope_id, window_kind, window_start), '[]')
            FROM compared WHERE spent_usd <> ledger_usd OR held_nano <> rows_nano),
        'expired', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'operation_id', operation_id, 'attempt_no', attempt_no, 'expires_at', expires_at,
                'usd', trim_scale(bound_nano / 1e9::numeric)::text) ORDER BY expires_at, hold_id), '[]')
            FROM open WHERE NOT has_row AND expires_at < clock_timestamp()),
        'settled', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'operation_id', operation_id, 'attempt_no', attempt_no, 'expires_at', expires_at,
                'usd', trim_scale(bound_nano / 1e9::numeric)::text) ORDER BY expires_at, hold_id), '[]')
            FROM open WHERE has_row),
        'leases', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'lease_id', lease_id, 'expires_at', expires_at, 'usd', trim_scale(nano / 1e9::numeric)::text)
                ORDER BY expires_at, lease_id), '[]')
            FROM (SELECT DISTINCT l.lease_id, l.nano, l.expires_at FROM llm_leased(payload->>'project') l) l
            WHERE expires_at < clock_timestamp()),
        'estimated', (
            SELECT jsonb_build_object('rows', count(*), 'usd', trim_scale(coalesce(sum(t.cost_usd), 0))::text)
            FROM cost_tracking t, asked a
            WHERE t.project = a.project AND t.accounted_on BETWEEN a.first AND a.last
              AND t.cost_source = 'estimated'),
        'unpriced', (
            SELECT count(*) FROM cost_tracking t, asked a
            WHERE t.project = a.project AND t.accounted_on BETWEEN a.first AND a.last AND t.cost_usd IS NULL))
$$;

-- payload: {provider, start, end}; days are UTC, as providers count them, and projects are not told apart:
-- an invoice has none.
-- answer: {days: [{day, certain_usd, possible_usd, estimated, unpriced}]}: certain is what is known and lies
-- wholly in the day; possible adds estimates, what lost leases may have bought, and attempts over midnight,
-- which the provider may count on either day.
CREATE OR REPLACE FUNCTION llm_provider_days(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    WITH touched AS (
        SELECT t.cost_usd, coalesce(t.cost_source = 'estimated', false) OR t.kind = 'lease_loss' AS is_estimate,
               (t.timestamp AT TIME ZONE 'UTC')::date AS first,
               ((t.timestamp + make_interval(secs => coalesce(t.latency_ms, 0) / 1000.0)) AT TIME ZONE 'UTC')::date
                   AS last
        FROM cost_tracking t
        WHERE (t.provider = payload->>'provider' OR (t.provider IS NULL AND t.kind = 'lease_loss'))
          AND t.timestamp >= ((payload->>'start')::date - 1)::timestamp AT TIME ZONE 'UTC'
          AND t.timestamp < ((payload->>'end')::date + 1)::timestamp AT TIME ZONE 'UTC'
    )
    SELECT jsonb_build_object('days', coalesce(jsonb_agg(jsonb_build_object(
        'day', day, 'certain_usd', trim_scale(certain)::text, 'possible_usd', trim_scale(possible)::text,
        'estimated', estimated, 'unpriced', unpriced) ORDER BY day), '[]'))
    FROM (
        SELECT d::date AS day,
               coalesce(sum(t.cost_usd) FILTER (
                   WHERE t.first = t.last AND NOT t.is_estimate), 0) AS certain,
               coalesce(sum(t.cost_usd), 0) AS possible,
               count(*) FILTER (WHERE t.is_estimate) AS estimated,
               count(t.first) FILTER (WHERE t.cost_usd IS NULL) AS unpriced
        FROM generate_series((payload->>'start')::date::timestamp, (payload->>'end')::date::timestamp, '1 day') d
        LEFT JOIN touched t ON d::date BETWEEN t.first AND t.last
        GROUP BY 1
    ) days
$$;

-- How the versions of a prompt compare; NULL compares all prompts. Dates are inclusive. A call is an
-- operation with all its attempts; it is ok when the last one was. Averages are per call, and leave out
-- what is unknown: avg_cost the unpriced.
SELECT llm_replace_function('compare_prompt_versions');
CREATE FUNCTION compare_prompt_versions(
    start_date date, end_date date, prompt_id text, target_project text DEFAULT NULL
) RETURNS TABLE (
    prompt text, version text, hash text, calls bigint, ok bigint, ok_share numeric, reasks bigint,
    reask_share numeric, total_cost numeric, avg_cost numeric, unpriced bigint, avg_input_tokens numeric,
    avg_output_tokens numeric, avg_latency_ms numeric
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH operations AS (
        SELECT c.prompt_id AS prompt, c.prompt_version AS version, c.prompt_hash AS hash,
               (array_agg(c.status ORDER BY c.attempt_no DESC))[1] = 'ok' AS is_ok,
               bool_or(c.kind = 'reask') AS is_reasked,
               sum(c.cost_usd) AS cost, count(*) FILTER (WHERE c.cost_usd IS NULL) AS unpriced,
               sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens,
               sum(c.latency_ms) AS latency_ms
        FROM cost_tracking AS c
        WHERE c.accounted_on BETWEEN start_date AND end_date
          AND c.prompt_id IS NOT NULL
          AND (compare_prompt_versions.prompt_id IS NULL OR c.prompt_id = compare_prompt_versions.prompt_id)
          AND (target_project IS NULL OR c.project = target_project)
        GROUP BY c.operation_id, c.prompt_id, c.prompt_version, c.prompt_hash
    )
    SELECT o.prompt, o.version, o.hash, count(*), count(*) FILTER (WHERE o.is_ok),
           round(count(*) FILTER (WHERE o.is_ok)::numeric / count(*), 4),
           count(*) FILTER (WHERE o.is_reasked),
           round(count(*) FILTER (WHERE o.is_reasked)::numeric / count(*), 4),
           coalesce(sum(o.cost), 0), round(avg(o.cost), 12), sum(o.unpriced)::bigint,
           round(avg(o.input_tokens), 1), round(avg(o.output_tokens), 1), round(avg(o.latency_ms), 1)
    FROM operations AS o
    GROUP BY o.prompt, o.version, o.hash
    ORDER BY o.prompt, o.version, o.hash
$$;

-- payload: {start, end, prompt_id, project}; answer: {rows}, with money as text, which PostgREST would turn
-- into floats.
CREATE OR REPLACE FUNCTION llm_prompt_versions(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('rows', coalesce(jsonb_agg(jsonb_build_object(
        'prompt', p.prompt, 'version', p.version, 'hash', p.hash, 'calls', p.calls, 'ok', p.ok,
        'ok_share', p.ok_share::text, 'reasks', p.reasks, 'reask_share', p.reask_share::text,
        'total_cost', trim_scale(p.total_cost)::text, 'avg_cost', trim_scale(p.avg_cost)::text,
        'unpriced', p.unpriced, 'avg_input_tokens', p.avg_input_tokens::text,
        'avg_output_tokens', p.avg_output_tokens::text, 'avg_latency_ms', p.avg_latency_ms::text)
        ORDER BY p.prompt, p.version, p.hash), '[]'))
    FROM compare_prompt_versions((payload->>'start')::date, (payload->>'end')::date,
                                 payload->>'prompt_id', payload->>'project') p
$$;

SELECT llm_lock_down(
    ARRAY['llm_outbox', 'llm_alert_rules'],
    ARRAY['llm_raise_alert', 'llm_raise_crossed', 'llm_on_spend', 'llm_on_refusal', 'llm_watch_budgets',
          'llm_outbox_claim', 'llm_outbox_done', 'llm_alerts', 'llm_leased', 'llm_held_by_rows',
          'llm_reconcile', 'llm_provider_days', 'compare_prompt_versions', 'llm_prompt_versions']);

NOTIFY pgrst, 'reload schema';
