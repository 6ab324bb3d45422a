-- Jobs: many units of one pipeline, worked on by any number of processes. A job is a row of pipeline_jobs, a
-- unit a row of pipeline_runs, a step a row of pipeline_steps: the same as of a single run.

SELECT llm_add_column('pipeline_jobs', 'version', 'integer NOT NULL DEFAULT 1');
SELECT llm_add_column('pipeline_jobs', 'total', 'bigint');
SELECT llm_add_column('pipeline_jobs', 'idempotency_key', 'text');
SELECT llm_add_column('pipeline_jobs', 'request_hash', 'text');
SELECT llm_add_column('pipeline_jobs', 'started_at', 'timestamptz');
SELECT llm_add_column('pipeline_jobs', 'completed_at', 'timestamptz');
SELECT llm_add_column('pipeline_jobs', 'error_message', 'text');
SELECT llm_add_index('idx_pipeline_jobs_idempotency', 'pipeline_jobs (project, idempotency_key)', true);

SELECT llm_add_column('pipeline_runs', 'ordinal', 'bigint');
SELECT llm_add_column('pipeline_runs', 'input', 'jsonb');
SELECT llm_add_column('pipeline_runs', 'output', 'jsonb');
SELECT llm_add_column('pipeline_runs', 'outcome', 'text');
SELECT llm_add_column('pipeline_runs', 'fault', 'text');
SELECT llm_add_column('pipeline_runs', 'tries', 'integer NOT NULL DEFAULT 0');
SELECT llm_add_column('pipeline_runs', 'interruptions', 'integer NOT NULL DEFAULT 0');
SELECT llm_add_column('pipeline_runs', 'versions', 'jsonb');
ALTER TABLE pipeline_runs DROP CONSTRAINT IF EXISTS pipeline_runs_status_check;
ALTER TABLE pipeline_runs ADD CONSTRAINT pipeline_runs_status_check CHECK (status IN (
    'running', 'completed', 'failed', 'insufficient_evidence', 'cancelled', 'paused', 'queued', 'skipped')) NOT VALID;
ALTER TABLE pipeline_runs VALIDATE CONSTRAINT pipeline_runs_status_check;
SELECT llm_add_index('idx_pipeline_runs_job_ordinal', 'pipeline_runs (job_id, ordinal)', false);
-- The other one begins with the same column.
SELECT llm_drop_indexes(ARRAY['idx_pipeline_runs_job_id']);

-- What a job has cost.
SELECT llm_add_index('idx_cost_tracking_job_id', 'cost_tracking (job_id) WHERE job_id IS NOT NULL', false);

-- How often a step was asked for anew because its process had ended in the middle of it.
SELECT llm_add_column('pipeline_steps', 'repeats', 'integer NOT NULL DEFAULT 0');

-- A step is written twice: the second time in the place that is left beside the first.
ALTER TABLE pipeline_steps SET (fillfactor = 70);

-- The units that are still to do: queued, or in somebody's hands if they have an owner. A small table, so that
-- claims don't touch the indexes of pipeline_runs; there such a unit is 'queued' until it is over.
CREATE TABLE IF NOT EXISTS llm_units (
    run_id        uuid PRIMARY KEY REFERENCES pipeline_runs (id) ON DELETE CASCADE,
    job_id        text NOT NULL,
    ordinal       bigint NOT NULL,
    fence         bigint NOT NULL,
    tries         integer NOT NULL DEFAULT 0,
    interruptions integer NOT NULL DEFAULT 0,
    owner         text,
    claim_id      uuid,
    claimed_at    timestamptz,
    not_before    timestamptz
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS llm_units_order ON llm_units (job_id, ordinal);
CREATE INDEX IF NOT EXISTS llm_units_held ON llm_units (job_id) WHERE owner IS NOT NULL;

-- Processes that work on jobs, and when each was last seen.
CREATE TABLE IF NOT EXISTS llm_workers (
    owner      text PRIMARY KEY,
    slots      integer NOT NULL,
    version    text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- payload: {job_id, project, pipeline, version, options, budget_usd, idempotency_key, request_hash}
-- answer: {job_id, status, created, request_hash, total}: of the job of this id or key, if there is one, which
-- then stays as it is; or {foreign: true} where the id is taken by another project.
CREATE OR REPLACE FUNCTION llm_job_open(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
    is_new boolean;
BEGIN
    INSERT INTO pipeline_jobs (id, project, pipeline, version, status, options, budget_usd, idempotency_key,
                               request_hash)
    VALUES (payload->>'job_id', payload->>'project', payload->>'pipeline', (payload->>'version')::int, 'pending',
            payload->'options', (payload->>'budget_usd')::numeric, payload->>'idempotency_key',
            payload->>'request_hash')
    ON CONFLICT DO NOTHING;
    is_new := FOUND;
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.project = payload->>'project' AND j.idempotency_key = payload->>'idempotency_key';
    IF NOT FOUND THEN
        SELECT * INTO job FROM pipeline_jobs j WHERE j.id = payload->>'job_id';
    END IF;
    IF job.project <> payload->>'project' THEN
        RETURN jsonb_build_object('foreign', true);
    END IF;
    RETURN jsonb_build_object('job_id', job.id, 'status', job.status, 'created', is_new,
                              'request_hash', job.request_hash, 'total', job.total);
END
$$;

-- payload: {job_id, project, units: [{run_id, unit_key, input_hash, ordinal, input, outcome, fault, error_message}]}
-- A unit with an outcome is skipped from the start. Units that the job has stay as they are.
-- answer: {added}, or {refused: status} for a job that is over, or absent
CREATE OR REPLACE FUNCTION llm_units_add(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
    added bigint;
BEGIN
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project' FOR KEY SHARE;
    IF job.total IS NOT NULL OR job.id IS NULL THEN
        RETURN jsonb_build_object('refused', coalesce(job.status, 'absent'));
    END IF;
    WITH put AS (
    INSERT INTO pipeline_runs (id, project, pipeline_name, unit_key, input_hash, job_id, ordinal, input, status,
                               outcome, fault, error_message, completed_at)
    SELECT u.run_id, job.project, job.pipeline, u.unit_key, u.input_hash, job.id, u.ordinal, u.input,
           CASE WHEN u.outcome IS NULL THEN 'queued' ELSE 'skipped' END, u.outcome, u.fault, u.error_message,
           CASE WHEN u.outcome IS NULL THEN NULL ELSE clock_timestamp() END
    FROM jsonb_to_recordset(payload->'units') AS u(run_id uuid, unit_key text, input_hash text, ordinal bigint,
                                                   input jsonb, outcome text, fault text, error_message text)
    ORDER BY u.unit_key
    ON CONFLICT (project, pipeline_name, unit_key, input_hash) DO NOTHING
    RETURNING id, ordinal, fence, status
    ), queued AS (
        INSERT INTO llm_units (run_id, job_id, ordinal, fence)
        SELECT p.id, job.id, p.ordinal, p.fence FROM put p WHERE p.status = 'queued' ORDER BY p.ordinal
    )
    SELECT count(*) INTO added FROM put;
    RETURN jsonb_build_object('added', added);
END
$$;

-- payload: {job_id, project}: all its units are there.
-- answer: {total}
CREATE OR REPLACE FUNCTION llm_job_seal(payload jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    UPDATE pipeline_jobs j
    SET total = coalesce(j.total, (SELECT count(*) FROM pipeline_runs r WHERE r.job_id = j.id))
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project'
    RETURNING jsonb_build_object('total', j.total)
$$;

-- Begins a job, and goes on with one that was paused or interrupted.
-- payload: {job_id, project, owner}
-- answer: {status}, after the change
CREATE OR REPLACE FUNCTION llm_job_begin(payload jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    UPDATE pipeline_jobs j
    SET status = CASE WHEN j.status = 'pending' AND j.total IS NOT NULL THEN 'running' ELSE j.status END,
        started_at = CASE WHEN j.total IS NULL THEN j.started_at ELSE coalesce(j.started_at, clock_timestamp()) END
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project'
    RETURNING jsonb_build_object('status', j.status, 'pipeline', j.pipeline, 'version', j.version,
                                 'options', j.options, 'budget_usd', j.budget_usd::text, 'total', j.total)
$$;

-- A queue that was just filled has no statistics, and one that is nearly empty has wrong ones: claims and writes
-- go by the indexes, whatever the planner thinks.
-- payload: {job_id, project, owner, claim_id, limit, again}; `again` repeats a claim whose answer was lost.
-- answer: {status, units: [{run_id, fence, unit_key, input, fresh, tries}], open, wait_s}: `open` tells whether
-- anything is still to do, `wait_s` when the next retry is due.
CREATE OR REPLACE FUNCTION llm_units_claim(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    job text := payload->>'job_id';
    caller text := payload->>'owner';
    claim uuid := payload->>'claim_id';
    most int := payload->>'limit';
    job_status text;
    claimed uuid[];
    answer jsonb;
BEGIN
    SELECT j.status INTO job_status FROM pipeline_jobs j WHERE j.id = job AND j.project = payload->>'project';
    IF (payload->>'again')::boolean THEN
        SELECT array_agg(u.run_id) INTO claimed FROM llm_units u
        WHERE u.job_id = job AND u.owner = caller AND u.claim_id = claim;
    END IF;
    IF claimed IS NULL AND job_status = 'running' THEN
        WITH picked AS MATERIALIZED (
            SELECT u.run_id FROM llm_units u
            WHERE u.job_id = job AND u.owner IS NULL
              AND (u.not_before IS NULL OR u.not_before <= statement_timestamp())
            ORDER BY u.job_id, u.ordinal LIMIT most FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE llm_units u
            SET owner = caller, fence = u.fence + 1, tries = u.tries + 1, claim_id = claim, not_before = NULL,
                claimed_at = clock_timestamp()
            FROM picked WHERE u.run_id = picked.run_id RETURNING u.run_id
        )
        SELECT array_agg(t.run_id) INTO claimed FROM taken t;
    END IF;
    IF claimed IS NULL THEN
        RETURN (
            SELECT jsonb_build_object('status', job_status, 'units', '[]'::jsonb, 'open', count(*) > 0,
                'wait_s', extract(epoch FROM min(u.not_before) - clock_timestamp())::float8)
            FROM llm_units u WHERE u.job_id = job);
    END IF;
    SELECT jsonb_build_object('status', job_status, 'open', true, 'units', jsonb_agg(jsonb_build_object(
        'run_id', u.run_id, 'fence', u.fence, 'unit_key', r.unit_key, 'input', r.input, 'tries', u.tries,
        'fresh', coalesce(r.options->'fresh', '[]')) ORDER BY u.ordinal))
    INTO answer
    FROM llm_units u JOIN pipeline_runs r ON r.id = u.run_id WHERE u.run_id = ANY(claimed);
    RETURN answer;
END
$$;

-- Many steps of many units in one transaction. Finishes come before begins, as they were made.
-- payload: {owner, again,
--           finishes: [{n, run_id, fence, step, key, state, output, output_hash, error_class}],
--           begins: [{n, run_id, fence, step, key, input_hash, version, model, max_age_s, fresh}],
--           ends: [{n, run_id, fence, status, outcome, fault, output, error_class, error_message, wait_s, versions}]}
-- answer: {answers: [{n, found, output}]}; what has no answer is fenced.
-- A begin that finds its own intent was sent before: it is no further attempt.
CREATE OR REPLACE FUNCTION llm_units_write(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    caller text := payload->>'owner';
    finished jsonb;
    begun jsonb;
    ended jsonb;
BEGIN
    -- In one order, so that two batches can't wait for each other.
    PERFORM 1 FROM llm_units u
    WHERE u.run_id = ANY(ARRAY(
        SELECT (one->>'run_id')::uuid
        FROM jsonb_array_elements((payload->'finishes') || (payload->'begins') || (payload->'ends')) AS one))
    ORDER BY u.run_id FOR NO KEY UPDATE;

    IF jsonb_array_length(payload->'finishes') > 0 THEN
        WITH f AS MATERIALIZED (
            SELECT f.* FROM jsonb_to_recordset(payload->'finishes') AS f(
                n int, run_id uuid, fence bigint, step text, key text, state text, output jsonb, output_hash text,
                error_class text)
            JOIN llm_units u ON u.run_id = f.run_id AND u.fence = f.fence
        ), large AS (
            INSERT INTO llm_blobs (hash, content)
            SELECT DISTINCT ON (f.output_hash) f.output_hash, f.output FROM f WHERE f.output_hash IS NOT NULL
            ORDER BY 1 ON CONFLICT (hash) DO NOTHING
        ), put AS (
            UPDATE pipeline_steps s
            SET state = f.state, finished_at = clock_timestamp(), error_class = f.error_class,
                output = CASE WHEN f.output_hash IS NULL THEN f.output END, output_hash = f.output_hash
            FROM f WHERE s.run_id = f.run_id AND s.step = f.step AND s.key = f.key AND s.state <> 'done'
        )
        SELECT jsonb_agg(jsonb_build_object('n', f.n)) INTO finished FROM f;
    END IF;

    IF jsonb_array_length(payload->'begins') > 0 THEN
        WITH b AS MATERIALIZED (
            SELECT b.*, r.project, old.output, old.output_hash, old.finished_at
            FROM jsonb_to_recordset(payload->'begins') AS b(
                n int, run_id uuid, fence bigint, step text, key text, input_hash text, version int, model text,
                max_age_s float8, fresh boolean)
            JOIN llm_units u ON u.run_id = b.run_id AND u.fence = b.fence
            JOIN pipeline_runs r ON r.id = b.run_id
            LEFT JOIN LATERAL (
                SELECT o.output, o.output_hash, o.finished_at FROM pipeline_steps o
                WHERE o.project = r.project AND o.step = b.step AND o.key = b.key AND o.input_hash = b.input_hash
                  AND o.version = b.version AND o.state = 'done' AND (o.run_id = b.run_id OR NOT b.fresh)
                  AND (b.max_age_s IS NULL
                       OR o.finished_at > statement_timestamp() - make_interval(secs => b.max_age_s))
                ORDER BY o.finished_at DESC LIMIT 1) AS old ON true
        ), put AS (
            INSERT INTO pipeline_steps AS s (run_id, project, step, key, input_hash, version, model, owner, fence,
                                             state, attempt, started_at, finished_at, output, output_hash)
            SELECT b.run_id, b.project, b.step, b.key, b.input_hash, b.version, b.model, caller, b.fence,
                   CASE WHEN b.finished_at IS NULL THEN 'intent' ELSE 'done' END, 1, clock_timestamp(), b.finished_at,
                   b.output, b.output_hash
            FROM b
            ON CONFLICT (run_id, step, key) DO UPDATE SET
                input_hash = excluded.input_hash, version = excluded.version, model = excluded.model,
                owner = excluded.owner, fence = excluded.fence, state = excluded.state,
                attempt = s.attempt + CASE WHEN excluded.state = 'done' OR (s.state = 'intent' AND s.fence = excluded.fence)
                                      THEN 0 ELSE 1 END,
                repeats = s.repeats + CASE WHEN excluded.state = 'intent' AND s.state = 'intent'
                                                AND s.fence <> excluded.fence THEN 1 ELSE 0 END,
                started_at = CASE WHEN excluded.state = 'intent' THEN excluded.started_at ELSE s.started_at END,
                finished_at = excluded.finished_at, output = excluded.output, output_hash = excluded.output_hash,
                error_class = NULL
        )
        SELECT jsonb_agg(CASE WHEN b.finished_at IS NULL THEN jsonb_build_object('n', b.n, 'found', false)
            ELSE jsonb_build_object('n', b.n, 'found', true, 'output', coalesce(b.output,
                (SELECT l.content FROM llm_blobs l WHERE l.hash = b.output_hash))) END)
        INTO begun FROM b;
    END IF;

    IF jsonb_array_length(payload->'ends') > 0 THEN
        WITH e AS MATERIALIZED (
            SELECT e.*, u.owner, u.tries, u.interruptions, u.claimed_at
            FROM jsonb_to_recordset(payload->'ends') AS e(
                n int, run_id uuid, fence bigint, status text, outcome text, fault text, output jsonb,
                error_class text, error_message text, wait_s float8, versions jsonb)
            JOIN llm_units u ON u.run_id = e.run_id AND u.fence = e.fence
        ), over AS (
            DELETE FROM llm_units u USING e WHERE u.run_id = e.run_id AND e.status <> 'queued'
        ), back AS (
            UPDATE llm_units u
            SET owner = NULL, not_before = clock_timestamp() + make_interval(secs => e.wait_s),
                -- What was given back untried does not count as a try.
                tries = u.tries - CASE WHEN e.outcome IS NULL THEN 1 ELSE 0 END
            FROM e WHERE u.run_id = e.run_id AND e.status = 'queued'
        ), put AS (
            UPDATE pipeline_runs r
            SET status = e.status, outcome = e.outcome, fault = e.fault, output = coalesce(e.output, r.output),
                error_class = e.error_class, error_message = e.error_message,
                versions = coalesce(e.versions, r.versions), owner = e.owner, fence = e.fence, tries = e.tries,
                interruptions = e.interruptions, started_at = e.claimed_at,
                options = CASE WHEN e.status = 'completed' THEN r.options - 'fresh' ELSE r.options END,
                completed_at = CASE WHEN e.status = 'queued' THEN NULL ELSE clock_timestamp() END,
                updated_at = clock_timestamp()
            FROM e WHERE r.id = e.run_id AND (e.status <> 'queued' OR e.outcome IS NOT NULL)
        )
        SELECT jsonb_agg(jsonb_build_object('n', e.n)) INTO ended FROM e;
        -- What has ended before was sent twice.
        SELECT coalesce(ended, '[]') || coalesce(jsonb_agg(jsonb_build_object('n', e.n)), '[]') INTO ended
        FROM jsonb_to_recordset(payload->'ends') AS e(n int, run_id uuid, fence bigint, status text)
        JOIN pipeline_runs r ON r.id = e.run_id AND r.fence = e.fence AND r.status = e.status
        WHERE (payload->>'again')::boolean AND NOT EXISTS (SELECT FROM llm_units u WHERE u.run_id = e.run_id);
    END IF;
    RETURN jsonb_build_object('answers', coalesce(finished, '[]') || coalesce(begun, '[]') || coalesce(ended, '[]'));
END
$$;

-- A process shows that it lives, and learns what became of its jobs, and who is at them.
-- payload: {owner, slots, version, project, jobs: [id], or null for all that run or whose units somebody holds}
-- answer: {jobs: [{job_id, pipeline, version, status,
--                  owners: [{owner, silent_s, units: [run_id] of the caller's own}]}]}
CREATE OR REPLACE FUNCTION llm_worker_beat(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    INSERT INTO llm_workers AS w (owner, slots, version)
    VALUES (payload->>'owner', (payload->>'slots')::int, payload->>'version')
    ON CONFLICT (owner) DO UPDATE
    SET slots = excluded.slots, version = excluded.version, seen_at = clock_timestamp();
    DELETE FROM llm_workers w WHERE w.seen_at < clock_timestamp() - interval '1 day';
    RETURN (
        SELECT jsonb_build_object('jobs', coalesce(jsonb_agg(jsonb_build_object(
            'job_id', j.id, 'pipeline', j.pipeline, 'version', j.version, 'status', j.status,
            'owners', (
                SELECT coalesce(jsonb_agg(to_jsonb(o)), '[]') FROM (
                    SELECT u.owner, extract(epoch FROM clock_timestamp() - min(w.seen_at))::float8 AS silent_s,
                           jsonb_agg(u.run_id) FILTER (WHERE u.owner = payload->>'owner') AS units
                    FROM llm_units u LEFT JOIN llm_workers w ON w.owner = u.owner
                    WHERE u.job_id = j.id AND u.owner IS NOT NULL GROUP BY u.owner) AS o))), '[]'))
        FROM pipeline_jobs j
        WHERE j.project = payload->>'project' AND CASE jsonb_typeof(payload->'jobs')
            WHEN 'array' THEN j.id IN (SELECT jsonb_array_elements_text(payload->'jobs'))
            ELSE j.status = 'running' OR EXISTS (
                SELECT FROM llm_units u WHERE u.job_id = j.id AND u.owner IS NOT NULL) END);
END
$$;

-- Units whose process is dead, or does not know of them, are queued again; one that has ended so too often has
-- failed: it may be what kills the process. Of a cancelled job they are cancelled.
-- payload: {job_id, project, owners: [owner], units: [run_id], most}
-- answer: {requeued, failed}
CREATE OR REPLACE FUNCTION llm_units_reap(payload jsonb) RETURNS jsonb
LANGUAGE sql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    WITH lost AS MATERIALIZED (
        SELECT u.run_id, j.status, j.status <> 'cancelled' AND u.interruptions + 1 < (payload->>'most')::int AS again
        FROM llm_units u JOIN pipeline_jobs j ON j.id = u.job_id AND j.project = payload->>'project'
        WHERE u.job_id = payload->>'job_id'
          AND (u.owner IN (SELECT jsonb_array_elements_text(payload->'owners'))
               OR u.run_id IN (SELECT one::uuid FROM jsonb_array_elements_text(payload->'units') AS one)
                  AND u.owner IS NOT NULL)
        ORDER BY u.run_id FOR UPDATE OF u
    ), back AS (
        UPDATE llm_units u
        SET fence = u.fence + 1, interruptions = u.interruptions + 1, owner = NULL, tries = u.tries - 1
        FROM lost WHERE u.run_id = lost.run_id AND lost.again
    ), over AS (
        DELETE FROM llm_units u USING lost WHERE u.run_id = lost.run_id AND NOT lost.again
        RETURNING u.run_id, u.fence, u.interruptions, lost.status
    ), put AS (
        UPDATE pipeline_runs r
        SET status = CASE over.status WHEN 'cancelled' THEN 'cancelled' ELSE 'failed' END,
            outcome = CASE over.status WHEN 'cancelled' THEN 'cancelled' ELSE 'crashed' END,
            fault = CASE over.status WHEN 'cancelled' THEN 'none' ELSE 'ours' END, fence = over.fence + 1,
            interruptions = over.interruptions + 1, completed_at = clock_timestamp(), updated_at = clock_timestamp()
        FROM over WHERE r.id = over.run_id
    )
    SELECT jsonb_build_object('requeued', count(*) FILTER (WHERE again), 'failed', count(*) FILTER (WHERE NOT again))
    FROM lost
$$;

-- A job is over when nothing is queued or running: completed, or failed if units failed and none completed.
-- payload: {job_id, project}
-- answer: {status}
CREATE OR REPLACE FUNCTION llm_job_settle(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
BEGIN
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project' FOR UPDATE;
    IF job.status = 'running' AND job.total IS NOT NULL AND NOT EXISTS (
        SELECT FROM llm_units u WHERE u.job_id = job.id) THEN
        UPDATE pipeline_jobs j
        SET completed_at = clock_timestamp(),
            status = CASE WHEN EXISTS (SELECT FROM pipeline_runs r WHERE r.job_id = j.id AND r.status = 'failed')
                           AND NOT EXISTS (SELECT FROM pipeline_runs r WHERE r.job_id = j.id AND r.status = 'completed')
                     THEN 'failed' ELSE 'completed' END
        WHERE j.id = job.id RETURNING * INTO job;
        -- Nobody waits for these any more.
        DELETE FROM llm_hosts h WHERE h.next_at < clock_timestamp() - interval '1 hour';
    END IF;
    RETURN jsonb_build_object('status', job.status);
END
$$;

-- Queues units that are over.
CREATE OR REPLACE FUNCTION llm_units_back(runs uuid[]) RETURNS void
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    WITH put AS (
        UPDATE pipeline_runs r
        SET status = 'queued', tries = 0, interruptions = 0, completed_at = NULL, outcome = NULL, fault = NULL,
            error_class = NULL, error_message = NULL
        WHERE r.id = ANY(runs) RETURNING r.id, r.job_id, r.ordinal, r.fence
    )
    INSERT INTO llm_units (run_id, job_id, ordinal, fence)
    SELECT p.id, p.job_id, p.ordinal, p.fence + 1 FROM put p
    ON CONFLICT (run_id) DO NOTHING
$$;

-- payload: {job_id, project, action: pause | resume | cancel}
-- answer: {status}, {refused: status} where it makes no sense, or {absent: true}
CREATE OR REPLACE FUNCTION llm_job_control(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
    wanted text := payload->>'action';
BEGIN
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('absent', true);
    END IF;
    IF wanted = 'pause' AND job.status IN ('pending', 'running') THEN
        job.status := 'paused';
    ELSIF wanted = 'cancel' AND job.status IN ('pending', 'running', 'paused') THEN
        job.status := 'cancelled';
        WITH gone AS (
            DELETE FROM llm_units u WHERE u.job_id = job.id AND u.owner IS NULL
            RETURNING u.run_id, u.fence, u.tries, u.interruptions
        )
        UPDATE pipeline_runs r
        SET status = 'cancelled', outcome = 'cancelled', fault = 'none', completed_at = clock_timestamp(),
            fence = gone.fence, tries = gone.tries, interruptions = gone.interruptions
        FROM gone WHERE r.id = gone.run_id;
    ELSIF wanted = 'resume' AND job.status IN ('paused', 'cancelled', 'failed') THEN
        job.status := 'running';
        PERFORM llm_units_back(ARRAY(
            SELECT r.id FROM pipeline_runs r WHERE r.job_id = job.id AND r.status IN ('cancelled', 'paused')));
    ELSE
        RETURN jsonb_build_object('refused', job.status);
    END IF;
    UPDATE pipeline_jobs j
    SET status = job.status,
        completed_at = CASE WHEN job.status = 'cancelled' THEN clock_timestamp() END
    WHERE j.id = job.id;
    RETURN jsonb_build_object('status', job.status);
END
$$;

-- Units that are over are queued again, and their job goes on.
-- payload: {job_id, project, statuses: [status], outcomes: [outcome] or null, units: [unit_key] or null,
--           fresh: [step], not_versions: {step: version} or null}
-- Of a fresh step, the unit's own results count no longer. With `not_versions`, only units that were completed with
-- other versions of their steps.
-- answer: {requeued}, {refused: status} for a cancelled job, or {absent: true}
CREATE OR REPLACE FUNCTION llm_units_requeue(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
    chosen uuid[];
BEGIN
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('absent', true);
    ELSIF job.status = 'cancelled' THEN
        RETURN jsonb_build_object('refused', job.status);
    END IF;
    WITH put AS (
        UPDATE pipeline_runs r
        SET options = coalesce(nullif(r.options, 'null'), '{}') || jsonb_build_object('fresh', payload->'fresh')
        WHERE r.job_id = job.id AND r.status IN (SELECT jsonb_array_elements_text(payload->'statuses'))
          AND (jsonb_typeof(payload->'outcomes') <> 'array'
               OR r.outcome IN (SELECT jsonb_array_elements_text(payload->'outcomes')))
          AND (jsonb_typeof(payload->'units') <> 'array'
               OR r.unit_key IN (SELECT jsonb_array_elements_text(payload->'units')))
          AND (jsonb_typeof(payload->'not_versions') <> 'object'
               OR r.versions IS DISTINCT FROM payload->'not_versions')
        RETURNING r.id
    )
    SELECT array_agg(id) INTO chosen FROM put;
    PERFORM llm_units_back(chosen);
    UPDATE pipeline_steps s SET state = 'failed', error_class = 'Invalidated'
    WHERE s.run_id = ANY(chosen) AND s.state = 'done'
      AND s.step IN (SELECT jsonb_array_elements_text(payload->'fresh'));
    IF chosen IS NOT NULL AND job.status IN ('completed', 'failed') THEN
        UPDATE pipeline_jobs j SET status = 'running', completed_at = NULL WHERE j.id = job.id;
    END IF;
    RETURN jsonb_build_object('requeued', coalesce(cardinality(chosen), 0));
END
$$;

-- Forgets a job with its units and their steps; the ledger keeps what they cost.
-- payload: {job_id, project}
-- answer: {deleted: 0 or 1}, or {refused: status}
CREATE OR REPLACE FUNCTION llm_job_delete(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    job pipeline_jobs;
BEGIN
    SELECT * INTO job FROM pipeline_jobs j
    WHERE j.id = payload->>'job_id' AND j.project = payload->>'project' FOR UPDATE;
    IF job.status = 'running' THEN
        RETURN jsonb_build_object('refused', job.status);
    END IF;
    DELETE FROM pipeline_runs r WHERE r.job_id = job.id;
    DELETE FROM pipeline_jobs j WHERE j.id = job.id;
    RETURN jsonb_build_object('deleted', CASE WHEN job.id IS NULL THEN 0 ELSE 1 END);
END
$$;

-- payload: {project, job_id, pipeline, status, limit}; what is null does not narrow.
-- answer: {jobs: [{job_id, pipeline, version, status, options, total, created_at, started_at, completed_at, budget_usd}]}
CREATE OR REPLACE FUNCTION llm_jobs(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    SELECT jsonb_build_object('jobs', coalesce(jsonb_agg(to_jsonb(j) ORDER BY j.created_at DESC, j.job_id), '[]'))
    FROM (
        SELECT p.id AS job_id, p.pipeline, p.version, p.status, p.options, p.total, p.created_at, p.started_at,
               p.completed_at, p.budget_usd::text, p.error_message, p.request_hash
        FROM pipeline_jobs p
        WHERE p.project = payload->>'project'
          AND (payload->>'job_id' IS NULL OR p.id = payload->>'job_id')
          AND (payload->>'pipeline' IS NULL OR p.pipeline = payload->>'pipeline')
          AND (payload->>'status' IS NULL OR p.status = payload->>'status')
        ORDER BY p.created_at DESC, p.id LIMIT coalesce((payload->>'limit')::int, 50)
    ) AS j
$$;

-- payload: {project, job_id, recent_s}
-- answer: {status, total, started_at, completed_at, now, statuses: {status: n}, outcomes: {outcome: n}, recent,
--          retries, interruptions, cost_usd, unpriced, tokens}, or null
CREATE OR REPLACE FUNCTION llm_job_progress(payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
    WITH job AS (
        SELECT * FROM pipeline_jobs j WHERE j.id = payload->>'job_id' AND j.project = payload->>'project'
    ), held AS (
        SELECT count(*) AS n, coalesce(sum(u.interruptions), 0) AS interruptions
        FROM llm_units u JOIN job ON u.job_id = job.id WHERE u.owner IS NOT NULL
    ), groups AS MATERIALIZED (
        SELECT r.status, r.outcome, count(*) AS n, sum(r.interruptions) AS interruptions,
               sum(greatest(r.tries - 1, 0)) AS retries,
               count(*) FILTER (WHERE r.status NOT IN ('queued', 'skipped') AND r.completed_at >
                   clock_timestamp() - make_interval(secs => (payload->>'recent_s')::float8)) AS recent
        FROM pipeline_runs r JOIN job ON r.job_id = job.id GROUP BY 1, 2
    ), spent AS (
        SELECT trim_scale(coalesce(sum(c.cost_usd), 0))::text AS cost_usd, coalesce(sum(c.tokens_used), 0) AS tokens,
               count(*) FILTER (WHERE c.cost_usd IS NULL) AS unpriced
        FROM cost_tracking c JOIN job ON c.project = job.project AND c.job_id = job.id
    )
    SELECT jsonb_build_object(
        'status', job.status, 'total', job.total, 'created_at', job.created_at, 'started_at', job.started_at,
        'completed_at', job.completed_at, 'now', clock_timestamp(),
        'statuses', (SELECT coalesce(jsonb_object_agg(g.status, g.n), '{}') FROM (
                        SELECT status, sum(n) - CASE status WHEN 'queued' THEN held.n ELSE 0 END AS n
                        FROM groups GROUP BY 1) AS g) || jsonb_build_object('running', held.n),
        'outcomes', (SELECT coalesce(jsonb_object_agg(g.outcome, g.n), '{}') FROM (
                        SELECT outcome, sum(n) AS n FROM groups WHERE outcome IS NOT NULL GROUP BY 1) AS g),
        'recent', (SELECT coalesce(sum(recent), 0) FROM groups),
        'retries', (SELECT coalesce(sum(retries), 0) FROM groups),
        'interruptions', (SELECT coalesce(sum(interruptions), 0) FROM groups) + held.interruptions,
        'cost_usd', spent.cost_usd, 'unpriced', spent.unpriced, 'tokens', spent.tokens)
    FROM job, spent, held
$$;

-- Units of a job, in the order of the job, a page at a time.
-- payload: {project, job_id, after, limit, statuses: [status] or null, units: [unit_key] or null, steps: boolean}
-- answer: {units: [{run_id, unit_key, ordinal, status, outcome, fault, input, output, error_class, error_message,
--          tries, interruptions, started_at, completed_at, step, cost_usd, unpriced, tokens, steps}]}: `step` is the
-- one that it is at; `steps` have their outputs.
CREATE OR REPLACE FUNCTION llm_job_units(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_custom_plan'
AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('units', coalesce(jsonb_agg(jsonb_build_object(
        'run_id', r.id, 'unit_key', r.unit_key, 'ordinal', r.ordinal, 'outcome', r.outcome,
        'status', CASE WHEN u.owner IS NULL THEN r.status ELSE 'running' END,
        'fault', r.fault, 'input', r.input, 'output', r.output, 'error_class', r.error_class,
        'error_message', r.error_message, 'tries', coalesce(u.tries, r.tries),
        'interruptions', coalesce(u.interruptions, r.interruptions),
        'started_at', CASE WHEN r.status IN ('queued', 'skipped') THEN u.claimed_at ELSE r.started_at END,
        'completed_at', r.completed_at,
        'step', (SELECT s.step FROM pipeline_steps s WHERE s.run_id = r.id AND s.state = 'intent'
                 ORDER BY s.started_at DESC LIMIT 1),
        'cost_usd', (SELECT trim_scale(coalesce(sum(c.cost_usd), 0))::text FROM cost_tracking c WHERE c.run_id = r.id),
        'unpriced', (SELECT count(*) FROM cost_tracking c WHERE c.run_id = r.id AND c.cost_usd IS NULL),
        'tokens', (SELECT coalesce(sum(c.tokens_used), 0) FROM cost_tracking c WHERE c.run_id = r.id),
        'steps', CASE WHEN (payload->>'steps')::boolean THEN (
            SELECT coalesce(jsonb_agg(jsonb_build_object('step', s.step, 'key', s.key, 'state', s.state,
                'version', s.version, 'attempt', s.attempt, 'repeats', s.repeats, 'error_class', s.error_class,
                'output', llm_step_output(s)) ORDER BY s.started_at, s.step, s.key), '[]')
            FROM pipeline_steps s WHERE s.run_id = r.id) END)
        ORDER BY r.ordinal), '[]'))
    FROM (
        SELECT * FROM pipeline_runs p
        WHERE p.job_id = payload->>'job_id' AND p.project = payload->>'project'
          AND p.ordinal > (payload->>'after')::bigint
          AND (jsonb_typeof(payload->'statuses') <> 'array'
               OR p.status IN (SELECT jsonb_array_elements_text(payload->'statuses')))
          AND (jsonb_typeof(payload->'units') <> 'array'
               OR p.unit_key IN (SELECT jsonb_array_elements_text(payload->'units')))
        ORDER BY p.ordinal LIMIT (payload->>'limit')::int
    ) AS r LEFT JOIN llm_units u ON u.run_id = r.id);
END
$$;

-- What two runs, or the runs of two jobs, are compared by: a page of one side's units.
-- payload: {project, job_id, after, limit}, or {project, run_id}
-- answer: {units: [{run_id, unit_key, ordinal, status, outcome, output, seen, cost_usd, unpriced, tokens,
--          steps: [{step, key, state, version, model, output, seen}], costs: {step: {cost_usd, unpriced, tokens}}}]}:
-- `output` is a hash, `seen` how it begins.
CREATE OR REPLACE FUNCTION llm_runs_side(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT
SET plan_cache_mode = 'force_custom_plan'
AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('units', coalesce(jsonb_agg(jsonb_build_object(
        'run_id', r.id, 'unit_key', r.unit_key, 'ordinal', r.ordinal, 'status', r.status, 'outcome', r.outcome,
        'output', md5(coalesce(r.output, r.analysis_json)::text),
        'seen', left(coalesce(r.output, r.analysis_json)::text, 200),
        'steps', (SELECT coalesce(jsonb_agg(jsonb_build_object('step', s.step, 'key', s.key, 'state', s.state,
                    'version', s.version, 'model', s.model, 'output', md5(o.output::text),
                    'seen', left(o.output::text, 200)) ORDER BY s.started_at, s.step, s.key), '[]')
                  FROM pipeline_steps s, LATERAL (SELECT llm_step_output(s) AS output OFFSET 0) o
                  WHERE s.run_id = r.id),
        'costs', (SELECT coalesce(jsonb_object_agg(coalesce(c.step, ''), jsonb_build_object(
                    'cost_usd', trim_scale(c.cost_usd)::text, 'unpriced', c.unpriced, 'tokens', c.tokens)), '{}')
                  FROM (SELECT c.step, coalesce(sum(c.cost_usd), 0) AS cost_usd, coalesce(sum(c.tokens_used), 0) AS tokens,
                               count(*) FILTER (WHERE c.cost_usd IS NULL) AS unpriced
                        FROM cost_tracking c WHERE c.run_id = r.id GROUP BY c.step) AS c))
        ORDER BY r.ordinal), '[]'))
    FROM (
        (SELECT * FROM pipeline_runs p
         WHERE p.project = payload->>'project' AND p.job_id = payload->>'job_id'
           AND p.ordinal > (payload->>'after')::bigint
         ORDER BY p.ordinal LIMIT (payload->>'limit')::int)
        UNION ALL
        SELECT * FROM pipeline_runs p
        WHERE p.project = payload->>'project' AND p.id = (payload->>'run_id')::uuid
    ) AS r);
END
$$;

-- One visit of a host at a time over all processes, with a pause between two.
-- payload: {host, pause_s}
-- answer: {wait_s}: when the caller's turn is
CREATE TABLE IF NOT EXISTS llm_hosts (
    host    text PRIMARY KEY,
    next_at timestamptz NOT NULL
);
CREATE OR REPLACE FUNCTION llm_host_turn(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    pause interval := make_interval(secs => (payload->>'pause_s')::float8);
    next_turn timestamptz;
BEGIN
    INSERT INTO llm_hosts AS h (host, next_at) VALUES (payload->>'host', clock_timestamp() + pause)
    ON CONFLICT (host) DO UPDATE SET next_at = greatest(h.next_at, clock_timestamp()) + pause
    RETURNING h.next_at INTO next_turn;
    RETURN jsonb_build_object('wait_s',
        greatest(0, extract(epoch FROM next_turn - pause - clock_timestamp()))::float8);
END
$$;

SELECT llm_lock_down(
    ARRAY['llm_units', 'llm_workers', 'llm_hosts'],
    ARRAY['llm_job_open', 'llm_units_add', 'llm_job_seal', 'llm_job_begin', 'llm_units_claim', 'llm_units_write', 'llm_worker_beat', 'llm_units_reap', 'llm_job_settle', 'llm_units_back', 'llm_job_control',
          'llm_units_requeue', 'llm_job_delete', 'llm_jobs', 'llm_job_progress', 'llm_job_units', 'llm_runs_side', 'llm_host_turn']);

NOTIFY pgrst, 'reload schema';
