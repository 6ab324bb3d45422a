-- What the processes of a project share about keys: cooldowns, and leases of rate limits.
-- Keys are never here: `lane` and `meter` are hashes, `label` names the key's variable.

CREATE TABLE IF NOT EXISTS llm_cooldowns (
    project    text        NOT NULL,
    lane       text        NOT NULL,
    label      text        NOT NULL,
    cool_until timestamptz NOT NULL,
    event_id   uuid        NOT NULL,
    PRIMARY KEY (project, lane)
);

-- One row per metered key: what is taken of the present minute, and the last take of each process.
CREATE TABLE IF NOT EXISTS llm_rate_windows (
    project      text        NOT NULL,
    meter        text        NOT NULL,
    label        text        NOT NULL,
    window_start timestamptz NOT NULL,
    requests     bigint      NOT NULL DEFAULT 0,
    tokens       bigint      NOT NULL DEFAULT 0,
    takes        jsonb       NOT NULL DEFAULT '{}',
    before       int         NOT NULL DEFAULT 0,
    PRIMARY KEY (project, meter)
);

CREATE TABLE IF NOT EXISTS llm_slot_leases (
    project    text        NOT NULL,
    meter      text        NOT NULL,
    instance   text        NOT NULL,
    label      text        NOT NULL,
    slots      int         NOT NULL CHECK (slots >= 0),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (project, meter, instance)
);

-- payload: {project, lane, label, seconds, event_id}; answer: {seconds left}
-- A longer cooldown replaces a shorter one; an event counts once.
CREATE OR REPLACE FUNCTION llm_cool(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    stands timestamptz;
BEGIN
    DELETE FROM llm_cooldowns
    WHERE (project, lane) IN (
        SELECT c.project, c.lane FROM llm_cooldowns c
        WHERE c.project = payload->>'project' AND c.lane <> payload->>'lane'
          AND c.cool_until < clock_timestamp() - interval '1 day'
        ORDER BY c.project, c.lane FOR UPDATE SKIP LOCKED);
    INSERT INTO llm_cooldowns AS c (project, lane, label, cool_until, event_id)
    VALUES (payload->>'project', payload->>'lane', payload->>'label',
            clock_timestamp() + make_interval(secs => (payload->>'seconds')::float8),
            (payload->>'event_id')::uuid)
    ON CONFLICT (project, lane) DO UPDATE
    SET cool_until = greatest(c.cool_until, excluded.cool_until),
        label = excluded.label, event_id = excluded.event_id
    WHERE c.event_id <> excluded.event_id;
    SELECT c.cool_until INTO stands FROM llm_cooldowns c
    WHERE c.project = payload->>'project' AND c.lane = payload->>'lane';
    RETURN jsonb_build_object('seconds', extract(epoch FROM stands - clock_timestamp()));
END
$$;

-- payload: {project}; answer: {cooling: {lane: seconds left}}
CREATE OR REPLACE FUNCTION llm_cooling(payload jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('cooling', coalesce(jsonb_object_agg(
        c.lane, extract(epoch FROM c.cool_until - clock_timestamp())), '{}'))
    FROM llm_cooldowns c
    WHERE c.project = payload->>'project' AND c.cool_until > clock_timestamp()
$$;

-- Takes a part of the present minute of a key: what is needed, or, where more is left, as much as
-- leaves the other processes theirs. An unlimited part (rpm or tpm NULL) is answered with NULL.
-- What the process still had of an earlier take, and has given up for this one, comes back first.
-- payload: {project, meter, label, instance, take_id, rpm, tpm, requests, tokens,
--           spare: {minute, requests, tokens} or null}
-- answer: {granted, requests, tokens, minute, resets_s}
CREATE OR REPLACE FUNCTION llm_take_rate(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    w llm_rate_windows;
    minute timestamptz;
    mine text := payload->>'instance';
    share int;
    granted bigint[];
    answer jsonb;
BEGIN
    INSERT INTO llm_rate_windows (project, meter, label, window_start)
    VALUES (payload->>'project', payload->>'meter', payload->>'label', '-infinity')
    ON CONFLICT DO NOTHING;
    SELECT * INTO w FROM llm_rate_windows r
    WHERE r.project = payload->>'project' AND r.meter = payload->>'meter' FOR UPDATE;
    -- Read after the lock: a take that waited past the minute's end belongs to the next one.
    minute := date_trunc('minute', clock_timestamp());
    IF w.window_start < minute THEN
        w.before := CASE WHEN w.window_start = minute - interval '1 minute'
                         THEN (SELECT count(*) FROM jsonb_object_keys(w.takes)) ELSE 0 END;
        w.window_start := minute;
        w.requests := 0;
        w.tokens := 0;
        w.takes := '{}';
    ELSIF w.takes->mine->>'take_id' = payload->>'take_id' THEN
        RETURN w.takes->mine->'answer';
    END IF;
    IF (payload->'spare'->>'minute')::bigint = extract(epoch FROM minute) THEN
        w.requests := greatest(w.requests - coalesce((payload->'spare'->>'requests')::bigint, 0), 0);
        w.tokens := greatest(w.tokens - coalesce((payload->'spare'->>'tokens')::bigint, 0), 0);
    END IF;
    share := greatest(w.before, (SELECT count(*) FROM jsonb_object_keys(
        w.takes || jsonb_build_object(mine, true))));
    granted := ARRAY[
        llm_rate_share((payload->>'rpm')::bigint, w.requests, (payload->>'requests')::bigint, share),
        llm_rate_share((payload->>'tpm')::bigint, w.tokens, (payload->>'tokens')::bigint, share)];
    answer := jsonb_build_object('minute', extract(epoch FROM minute)::bigint,
        'resets_s', extract(epoch FROM w.window_start + interval '1 minute' - clock_timestamp()));
    IF granted[1] = 0 AND (payload->>'requests')::bigint > 0
       OR granted[2] = 0 AND (payload->>'tokens')::bigint > 0 THEN
        answer := answer || jsonb_build_object('granted', false, 'requests', 0, 'tokens', 0);
    ELSE
        w.requests := w.requests + coalesce(granted[1], 0);
        w.tokens := w.tokens + coalesce(granted[2], 0);
        answer := answer || jsonb_build_object(
            'granted', true, 'requests', granted[1], 'tokens', granted[2]);
    END IF;
    w.takes := w.takes || jsonb_build_object(mine,
        jsonb_build_object('take_id', payload->>'take_id', 'answer', answer));
    UPDATE llm_rate_windows r
    SET window_start = w.window_start, requests = w.requests, tokens = w.tokens,
        takes = w.takes, before = w.before, label = payload->>'label'
    WHERE r.project = w.project AND r.meter = w.meter;
    RETURN answer;
END
$$;

-- How much of a limit one of `share` processes is given: at least what it needs, or nothing.
-- Half of its part of the rest, so that a process that starts now finds some; a tenth of its part
-- of the whole, so that the end of the minute does not go in single requests.
CREATE OR REPLACE FUNCTION llm_rate_share(rate_limit bigint, used bigint, need bigint, share int)
RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path FROM CURRENT
AS $$
    SELECT CASE
        WHEN rate_limit IS NULL THEN NULL
        WHEN rate_limit - used < need THEN 0
        ELSE least(rate_limit - used,
                   greatest(need, (rate_limit - used) / (2 * share), rate_limit / (10 * share)))
    END
$$;

-- Leases slots for requests in flight: the number is what the process has afterwards, so a repeated
-- call changes nothing but the expiry. Slots that are not renewed are free again after `ttl_s`.
-- payload: {project, meter, label, instance, limit, slots, ttl_s}; answer: {slots}
CREATE OR REPLACE FUNCTION llm_take_slots(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    others bigint;
    granted int;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(
        'llm_common:slots:' || (payload->>'project') || ':' || (payload->>'meter'), 0));
    DELETE FROM llm_slot_leases s
    WHERE s.project = payload->>'project' AND s.meter = payload->>'meter'
      AND s.expires_at <= clock_timestamp();
    SELECT coalesce(sum(s.slots), 0) INTO others FROM llm_slot_leases s
    WHERE s.project = payload->>'project' AND s.meter = payload->>'meter'
      AND s.instance <> payload->>'instance';
    granted := greatest(least((payload->>'slots')::int, (payload->>'limit')::int - others), 0);
    INSERT INTO llm_slot_leases AS s (project, meter, instance, label, slots, expires_at)
    VALUES (payload->>'project', payload->>'meter', payload->>'instance', payload->>'label', granted,
            clock_timestamp() + make_interval(secs => (payload->>'ttl_s')::float8))
    ON CONFLICT (project, meter, instance) DO UPDATE
    SET slots = excluded.slots, expires_at = excluded.expires_at, label = excluded.label;
    RETURN jsonb_build_object('slots', granted);
END
$$;

SELECT llm_lock_down(
    ARRAY['llm_cooldowns', 'llm_rate_windows', 'llm_slot_leases'],
    ARRAY['llm_cool', 'llm_cooling', 'llm_take_rate', 'llm_rate_share', 'llm_take_slots']);

NOTIFY pgrst, 'reload schema';
