-- Rollouts: which arm a unit is shown is decided in the processes, from a state that they read here; what
-- came of it is written here, and judged. Exposures, outcomes, mismatches and decisions are append-only.

-- `mode` is NULL until somebody sets it. Shares are basis points, 0 to 10,000. A rollback latches: then the
-- mode stays off until a person resets it. What counts for a decision begins after `epoch_seq`.
CREATE TABLE IF NOT EXISTS llm_rollouts (
    project      text NOT NULL,
    flag         text NOT NULL,
    mode         text CHECK (mode IN ('off', 'shadow', 'percent', 'on')),
    share        int NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 10000),
    allow        jsonb NOT NULL DEFAULT '[]',
    deny         jsonb NOT NULL DEFAULT '[]',
    segments     jsonb NOT NULL DEFAULT '[]',
    shadow       jsonb NOT NULL DEFAULT '{}',
    ramp         jsonb,
    latched      text,
    revision     bigint NOT NULL DEFAULT 0,
    stage_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    epoch_seq    bigint NOT NULL DEFAULT 0,
    failures     int NOT NULL DEFAULT 0,
    looked_at    timestamptz,
    PRIMARY KEY (project, flag)
);

-- `counted`: the share decided, not a list. `share` is the one that was in force for this unit.
CREATE TABLE IF NOT EXISTS llm_rollout_exposures (
    seq      bigint GENERATED ALWAYS AS IDENTITY,
    id       uuid PRIMARY KEY,
    project  text NOT NULL,
    flag     text NOT NULL,
    revision bigint NOT NULL,
    unit_id  text NOT NULL,
    arm      text NOT NULL CHECK (arm IN ('old', 'new', 'shadow')),
    reason   text NOT NULL,
    share    int NOT NULL,
    counted  boolean NOT NULL,
    shown_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS llm_rollout_exposures_seq ON llm_rollout_exposures (project, flag, seq);

CREATE TABLE IF NOT EXISTS llm_rollout_outcomes (
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    exposure_id uuid PRIMARY KEY,
    project     text NOT NULL,
    flag        text NOT NULL,
    arm         text NOT NULL CHECK (arm IN ('old', 'new', 'shadow')),
    status      text NOT NULL CHECK (status IN ('ok', 'error', 'refused', 'cancelled')),
    error_class text,
    latency_ms  bigint NOT NULL,
    cost_usd    numeric(20, 12),
    run_id      uuid,
    matched     boolean,
    ended_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS llm_rollout_outcomes_arm ON llm_rollout_outcomes (project, flag, arm, seq);

CREATE TABLE IF NOT EXISTS llm_rollout_mismatches (
    exposure_id uuid PRIMARY KEY,
    project     text NOT NULL,
    flag        text NOT NULL,
    unit_id     text NOT NULL,
    difference  jsonb NOT NULL,
    found_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS llm_rollout_mismatches_flag ON llm_rollout_mismatches (project, flag, found_at);

CREATE TABLE IF NOT EXISTS llm_rollout_decisions (
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    id          uuid PRIMARY KEY,
    project     text NOT NULL,
    flag        text NOT NULL,
    action      text NOT NULL CHECK (action IN ('set', 'ramp', 'advance', 'roll_back', 'reset', 'epoch')),
    actor       text NOT NULL,
    reason      text NOT NULL,
    before      jsonb NOT NULL,
    after       jsonb NOT NULL,
    evidence    jsonb,
    decided_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS llm_rollout_decisions_flag ON llm_rollout_decisions (project, flag, seq);

CREATE OR REPLACE FUNCTION llm_append_only() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('llm_common.retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'raise_exception';
END
$$;

CREATE OR REPLACE TRIGGER llm_append_only BEFORE UPDATE OR DELETE ON llm_rollout_exposures
    FOR EACH ROW EXECUTE FUNCTION llm_append_only();
CREATE OR REPLACE TRIGGER llm_append_only BEFORE UPDATE OR DELETE ON llm_rollout_outcomes
    FOR EACH ROW EXECUTE FUNCTION llm_append_only();
CREATE OR REPLACE TRIGGER llm_append_only BEFORE UPDATE OR DELETE ON llm_rollout_mismatches
    FOR EACH ROW EXECUTE FUNCTION llm_append_only();
CREATE OR REPLACE TRIGGER llm_append_only BEFORE UPDATE OR DELETE ON llm_rollout_decisions
    FOR EACH ROW EXECUTE FUNCTION llm_append_only();

-- Deletes exposures, outcomes and mismatches beyond an age; decisions stay.
CREATE OR REPLACE FUNCTION cleanup_rollouts(keep interval DEFAULT '90 days') RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT
SET llm_common.retention = 'on'
AS $$
    DELETE FROM llm_rollout_outcomes WHERE ended_at < clock_timestamp() - keep;
    DELETE FROM llm_rollout_mismatches WHERE found_at < clock_timestamp() - keep;
    DELETE FROM llm_rollout_exposures WHERE shown_at < clock_timestamp() - keep;
$$;

-- ---------------------------------------------------------------- state

CREATE OR REPLACE FUNCTION llm_rollout_state(rollout llm_rollouts) RETURNS jsonb
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT to_jsonb(rollout) - ARRAY['looked_at', 'failures', 'epoch_seq']
$$;

-- payload: {project, flag}; makes the flag known, with nothing set.
-- answer: {state}
CREATE OR REPLACE FUNCTION llm_rollout_register(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO llm_rollouts (project, flag) VALUES (payload->>'project', payload->>'flag')
    ON CONFLICT DO NOTHING;
    RETURN llm_rollout_read(payload);
END
$$;

-- payload: {project, flag}
-- answer: {state: {mode, share, allow, deny, segments, shadow, ramp, latched, revision, stage_at} or null}
CREATE OR REPLACE FUNCTION llm_rollout_read(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('state', (
        SELECT llm_rollout_state(r) FROM llm_rollouts r
        WHERE r.project = payload->>'project' AND r.flag = payload->>'flag'))
$$;

-- payload: {decision_id, project, flag, action, actor, reason, evidence, revision: of the state that was judged or
-- null, to: {any of mode, share, allow, deny, segments, shadow, ramp}}
-- answer: {state}, or {refused: 'unknown' | 'latched' | 'revision', state}. Asking again with the same decision_id
-- changes nothing. Only a reset, and `off`, may follow a rollback.
CREATE OR REPLACE FUNCTION llm_rollout_decide(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    was llm_rollouts;
    now_is llm_rollouts;
    wanted jsonb := coalesce(payload->'to', '{}');
    action text := payload->>'action';
BEGIN
    SELECT * INTO was FROM llm_rollouts r
    WHERE r.project = payload->>'project' AND r.flag = payload->>'flag' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN '{"refused": "unknown", "state": null}';
    ELSIF EXISTS (SELECT FROM llm_rollout_decisions d WHERE d.id = (payload->>'decision_id')::uuid) THEN
        RETURN jsonb_build_object('state', llm_rollout_state(was));
    ELSIF was.revision <> (payload->>'revision')::bigint THEN
        RETURN jsonb_build_object('refused', 'revision', 'state', llm_rollout_state(was));
    ELSIF was.latched IS NOT NULL AND action <> 'reset'
          AND NOT (action = 'set' AND wanted->>'mode' IS NOT DISTINCT FROM 'off') THEN
        RETURN jsonb_build_object('refused', 'latched', 'state', llm_rollout_state(was));
    END IF;
    UPDATE llm_rollouts r
    SET mode = coalesce(wanted->>'mode', was.mode), share = coalesce((wanted->>'share')::int, was.share),
        allow = coalesce(wanted->'allow', was.allow), deny = coalesce(wanted->'deny', was.deny),
        segments = coalesce(wanted->'segments', was.segments), shadow = coalesce(wanted->'shadow', was.shadow),
        ramp = CASE WHEN wanted ? 'ramp' THEN nullif(wanted->'ramp', 'null') ELSE was.ramp END,
        latched = CASE action WHEN 'roll_back' THEN payload->>'reason' WHEN 'reset' THEN NULL ELSE was.latched END,
        revision = was.revision + 1,
        stage_at = CASE action WHEN 'epoch' THEN was.stage_at ELSE clock_timestamp() END,
        epoch_seq = coalesce((SELECT max(e.seq) FROM llm_rollout_exposures e
                              WHERE e.project = was.project AND e.flag = was.flag), 0),
        failures = CASE action WHEN 'epoch' THEN was.failures ELSE 0 END
    WHERE r.project = was.project AND r.flag = was.flag
    RETURNING * INTO now_is;
    INSERT INTO llm_rollout_decisions (id, project, flag, action, actor, reason, before, after, evidence)
    VALUES ((payload->>'decision_id')::uuid, was.project, was.flag, action, payload->>'actor', payload->>'reason',
            llm_rollout_state(was), llm_rollout_state(now_is), payload->'evidence');
    IF action IN ('advance', 'roll_back') THEN
        INSERT INTO llm_outbox (project, topic, key, body)
        VALUES (was.project, 'rollout', payload->>'decision_id', jsonb_build_object(
            'kind', action, 'flag', was.flag, 'reason', payload->>'reason', 'mode', now_is.mode,
            'share', now_is.share, 'decision_id', payload->>'decision_id', 'text', format(
                CASE action WHEN 'roll_back' THEN 'Rollout %s of project %s was rolled back: %s'
                            ELSE 'Rollout %s of project %s advanced: %s' END,
                was.flag, was.project, payload->>'reason')))
        ON CONFLICT (project, topic, key) DO NOTHING;
    END IF;
    -- Whoever listens reads the state again at once; who does not, at the next poll.
    PERFORM pg_notify('llm_rollout', was.project);
    RETURN jsonb_build_object('state', llm_rollout_state(now_is));
END
$$;

-- ---------------------------------------------------------------- what happened

-- payload: {project, flag, exposures: [{id, revision, unit_id, arm, reason, share, counted}], outcomes: [{exposure_id, unit_id,
-- arm, status, error_class, latency_ms, cost_usd, run_id, matched, difference, run: {columns} or null}]}. With `run` the
-- outcome is of an old arm that leaves a row in pipeline_runs; its id is `run_id`.
-- answer: {failures: how many of the new arm's latest outcomes failed in a row}. Sending a batch again changes nothing.
CREATE OR REPLACE FUNCTION llm_rollout_record(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    one record;
    in_a_row int;
BEGIN
    INSERT INTO llm_rollout_exposures (id, project, flag, revision, unit_id, arm, reason, share, counted)
    SELECT e.id, payload->>'project', payload->>'flag', e.revision, e.unit_id, e.arm, e.reason, e.share, e.counted
    FROM jsonb_to_recordset(payload->'exposures')
         e(id uuid, revision bigint, unit_id text, arm text, reason text, share int, counted boolean)
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO pipeline_runs (id, project, pipeline_name, unit_key, input_hash, status, started_at, completed_at, error_class,
                               bill_id, jurisdiction, generate_model, review_model)
    SELECT o.run_id, payload->>'project', payload->>'flag', o.unit_id, o.run_id::text,
           CASE o.status WHEN 'ok' THEN 'completed' WHEN 'cancelled' THEN 'cancelled' ELSE 'failed' END,
           clock_timestamp() - make_interval(secs => o.latency_ms / 1000.0), clock_timestamp(), o.error_class,
           o.run->>'bill_id', o.run->>'jurisdiction', o.run->>'generate_model', o.run->>'review_model'
    FROM jsonb_to_recordset(payload->'outcomes')
         o(run_id uuid, unit_id text, status text, error_class text, latency_ms bigint, run jsonb)
    WHERE jsonb_typeof(o.run) = 'object'
    ON CONFLICT (id) DO NOTHING;
    INSERT INTO llm_rollout_mismatches (exposure_id, project, flag, unit_id, difference)
    SELECT o.exposure_id, payload->>'project', payload->>'flag', o.unit_id, o.difference
    FROM jsonb_to_recordset(payload->'outcomes') o(exposure_id uuid, unit_id text, matched boolean, difference jsonb)
    WHERE NOT o.matched
    ON CONFLICT (exposure_id) DO NOTHING;
    SELECT r.failures INTO in_a_row FROM llm_rollouts r
    WHERE r.project = payload->>'project' AND r.flag = payload->>'flag' FOR UPDATE;
    FOR one IN
        WITH stored AS (
            INSERT INTO llm_rollout_outcomes (exposure_id, project, flag, arm, status, error_class, latency_ms, cost_usd,
                                              run_id, matched)
            SELECT o.exposure_id, payload->>'project', payload->>'flag', o.arm, o.status, o.error_class, o.latency_ms,
                   o.cost_usd, o.run_id, o.matched
            FROM jsonb_to_recordset(payload->'outcomes')
                 o(exposure_id uuid, arm text, status text, error_class text, latency_ms bigint, cost_usd numeric,
                   run_id uuid, matched boolean)
            ON CONFLICT (exposure_id) DO NOTHING
            RETURNING seq, arm, status
        )
        SELECT s.status FROM stored s WHERE s.arm = 'new' AND s.status IN ('ok', 'error') ORDER BY s.seq
    LOOP
        in_a_row := CASE one.status WHEN 'ok' THEN 0 ELSE in_a_row + 1 END;
    END LOOP;
    UPDATE llm_rollouts r SET failures = in_a_row
    WHERE r.project = payload->>'project' AND r.flag = payload->>'flag' AND r.failures <> in_a_row;
    RETURN jsonb_build_object('failures', coalesce(in_a_row, 0));
END
$$;

-- What one arm did since an epoch began; see `ArmTally` in llm_common/rollout/guardrails.py.
CREATE OR REPLACE FUNCTION llm_rollout_arm(rollout llm_rollouts, in_arm text, slow_ms bigint, grace_s float8)
RETURNS jsonb
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    WITH shown AS (
        SELECT e.unit_id, e.share, e.shown_at, o.seq, o.exposure_id, o.status, o.latency_ms, o.cost_usd, o.run_id
        FROM llm_rollout_exposures e LEFT JOIN llm_rollout_outcomes o ON o.exposure_id = e.id
        WHERE e.project = rollout.project AND e.flag = rollout.flag AND e.seq > rollout.epoch_seq
          AND e.arm = in_arm AND e.counted
    ), ended AS (
        SELECT * FROM shown WHERE status IN ('ok', 'error')
    ), due AS (
        SELECT * FROM shown WHERE shown_at < clock_timestamp() - make_interval(secs => grace_s)
    ), priced AS (
        SELECT seq, cost_usd FROM ended WHERE cost_usd IS NOT NULL ORDER BY seq LIMIT 1000
    ), earlier AS (
        -- Without a concurrent control its latest costs are what the new arm's are compared with.
        SELECT o.seq, o.cost_usd FROM llm_rollout_outcomes o
        WHERE o.project = rollout.project AND o.flag = rollout.flag AND o.arm = 'old' AND o.cost_usd IS NOT NULL
          AND in_arm = 'old' AND NOT EXISTS (SELECT FROM shown)
        ORDER BY o.seq DESC LIMIT 1000
    )
    SELECT jsonb_build_object(
        'units', (SELECT coalesce(jsonb_object_agg(u.share, u.units), '{}')
                  FROM (SELECT s.share, count(DISTINCT s.unit_id) AS units FROM shown s GROUP BY s.share) u),
        'finished', (SELECT count(*) FROM ended),
        'errors', (SELECT count(*) FROM ended WHERE status = 'error'),
        'slow', (SELECT count(*) FROM ended WHERE latency_ms > slow_ms),
        'due', (SELECT count(*) FROM due),
        'lost', (SELECT count(*) FROM due WHERE exposure_id IS NULL),
        'vanished', (SELECT count(*) FROM ended e WHERE e.run_id IS NOT NULL
                     AND NOT EXISTS (SELECT FROM pipeline_runs p WHERE p.id = e.run_id)),
        'unpriced', (SELECT count(*) FROM ended WHERE cost_usd IS NULL),
        'costs', (SELECT coalesce(jsonb_agg(trim_scale(c.cost_usd)::text ORDER BY c.seq), '[]')
                  FROM (SELECT * FROM priced UNION ALL SELECT * FROM earlier) c))
$$;

-- payload: {project, flag, every_s, slow_ms, grace_s, at_once}
-- answer: {state, new, old, failures, seconds}, or {state: null} when it is not the caller's turn: one process looks
-- per interval, and only while units are shown the new arm.
CREATE OR REPLACE FUNCTION llm_rollout_look(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    rollout llm_rollouts;
    slow_ms bigint := (payload->>'slow_ms')::bigint;
    grace_s float8 := (payload->>'grace_s')::float8;
BEGIN
    UPDATE llm_rollouts r SET looked_at = clock_timestamp()
    WHERE r.project = payload->>'project' AND r.flag = payload->>'flag' AND r.latched IS NULL
      AND r.mode IS DISTINCT FROM 'off' AND r.mode IS DISTINCT FROM 'shadow'
      AND ((payload->>'at_once')::boolean OR r.looked_at IS NULL
           OR r.looked_at < clock_timestamp() - make_interval(secs => (payload->>'every_s')::float8))
    RETURNING * INTO rollout;
    IF NOT FOUND THEN
        RETURN '{"state": null}';
    END IF;
    RETURN jsonb_build_object(
        'state', llm_rollout_state(rollout), 'failures', rollout.failures,
        'seconds', extract(epoch FROM clock_timestamp() - rollout.stage_at)::float8,
        'new', llm_rollout_arm(rollout, 'new', slow_ms, grace_s),
        'old', llm_rollout_arm(rollout, 'old', slow_ms, grace_s));
END
$$;

-- ---------------------------------------------------------------- for people

-- payload: {project, flag or null}
-- answer: {rollouts: [{state, arms: [{arm, exposures, units, ok, errors, refused, cancelled, pending, p95_ms, cost_usd, unpriced,
-- mismatches}]}]}: what the arms did since the stage began
CREATE OR REPLACE FUNCTION llm_rollout_status(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('rollouts', coalesce(jsonb_agg(
        jsonb_build_object('state', llm_rollout_state(r), 'arms', (
            SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a.arm), '[]')
            FROM (
                SELECT e.arm, count(*) AS exposures, count(DISTINCT e.unit_id) AS units,
                       count(*) FILTER (WHERE o.status = 'ok') AS ok,
                       count(*) FILTER (WHERE o.status = 'error') AS errors,
                       count(*) FILTER (WHERE o.status = 'refused') AS refused,
                       count(*) FILTER (WHERE o.status = 'cancelled') AS cancelled,
                       count(*) FILTER (WHERE o.exposure_id IS NULL) AS pending,
                       percentile_disc(0.95) WITHIN GROUP (ORDER BY o.latency_ms) AS p95_ms,
                       trim_scale(coalesce(sum(o.cost_usd), 0))::text AS cost_usd,
                       count(*) FILTER (WHERE o.exposure_id IS NOT NULL AND o.cost_usd IS NULL) AS unpriced,
                       count(*) FILTER (WHERE NOT o.matched) AS mismatches
                FROM llm_rollout_exposures e LEFT JOIN llm_rollout_outcomes o ON o.exposure_id = e.id
                WHERE e.project = r.project AND e.flag = r.flag AND e.shown_at >= r.stage_at
                GROUP BY e.arm
            ) a)) ORDER BY r.flag), '[]'))
    FROM llm_rollouts r
    WHERE r.project = payload->>'project' AND (payload->>'flag' IS NULL OR r.flag = payload->>'flag')
$$;

-- payload: {project, flag, limit}
-- answer: {decisions: [{id, action, actor, reason, before, after, evidence, decided_at}], mismatches: [{exposure_id, unit_id,
-- difference, found_at}]}, the newest first
CREATE OR REPLACE FUNCTION llm_rollout_log(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object(
        'decisions', (
            SELECT coalesce(jsonb_agg(to_jsonb(d) - ARRAY['seq', 'project', 'flag'] ORDER BY d.seq DESC), '[]')
            FROM (SELECT * FROM llm_rollout_decisions l
                  WHERE l.project = payload->>'project' AND l.flag = payload->>'flag'
                  ORDER BY l.seq DESC LIMIT (payload->>'limit')::int) d),
        'mismatches', (
            SELECT coalesce(jsonb_agg(to_jsonb(m) - ARRAY['project', 'flag'] ORDER BY m.found_at DESC), '[]')
            FROM (SELECT * FROM llm_rollout_mismatches l
                  WHERE l.project = payload->>'project' AND l.flag = payload->>'flag'
                  ORDER BY l.found_at DESC LIMIT (payload->>'limit')::int) m))
$$;

SELECT llm_lock_down(
    ARRAY['llm_rollouts', 'llm_rollout_exposures', 'llm_rollout_outcomes', 'llm_rollout_mismatches',
          'llm_rollout_decisions'],
    ARRAY['llm_append_only', 'cleanup_rollouts', 'llm_rollout_state', 'llm_rollout_register', 'llm_rollout_read',
          'llm_rollout_decide', 'llm_rollout_record', 'llm_rollout_arm', 'llm_rollout_look', 'llm_rollout_status',
          'llm_rollout_log']);

NOTIFY pgrst, 'reload schema';
