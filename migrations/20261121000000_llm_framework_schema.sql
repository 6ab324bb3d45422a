-- The shared tables of the plan, with its defects mended, and what runs and the ledger need.
--
-- Unqualified names: the runner sets search_path to the target schema. A host may have run the
-- plan's own SQL before: every object that is already there is recorded as the host's and survives
-- a rollback. Running this file twice changes nothing.

CREATE TABLE IF NOT EXISTS llm_migrations (
    version text PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Everything that migrations made or found. `adopted`: it was the host's before.
CREATE TABLE IF NOT EXISTS llm_objects (
    kind text NOT NULL CHECK (kind IN ('table', 'column', 'index', 'function')),
    name text NOT NULL,
    adopted boolean NOT NULL,
    definition text,
    PRIMARY KEY (kind, name)
);

-- ---------------------------------------------------------------- helpers for migrations

-- Record an object the first time it is seen; later calls change nothing.
CREATE OR REPLACE FUNCTION llm_register(
    object_kind text, object_name text, present boolean, object_definition text
) RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    INSERT INTO llm_objects (kind, name, adopted, definition)
    VALUES (object_kind, object_name, present, object_definition)
    ON CONFLICT (kind, name) DO NOTHING
$$;

-- Call before CREATE TABLE IF NOT EXISTS.
CREATE OR REPLACE FUNCTION llm_begin_table(table_name text)
RETURNS void LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT llm_register('table', table_name, to_regclass(quote_ident(table_name)) IS NOT NULL, NULL)
$$;

-- Add a column unless the table has one of that name.
CREATE OR REPLACE FUNCTION llm_add_column(table_name text, column_name text, column_type text)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present boolean := EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(table_name))
          AND attname = column_name AND NOT attisdropped);
BEGIN
    PERFORM llm_register('column', table_name || '.' || column_name, present, NULL);
    IF NOT present THEN
        EXECUTE format('ALTER TABLE %I ADD COLUMN %I %s', table_name, column_name, column_type);
    END IF;
END
$$;

-- `target` is what follows ON, such as `cost_tracking (model)`.
CREATE OR REPLACE FUNCTION llm_add_index(index_name text, target text, is_unique boolean)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    present boolean := to_regclass(quote_ident(index_name)) IS NOT NULL;
BEGIN
    PERFORM llm_register('index', index_name, present, NULL);
    IF NOT present THEN
        EXECUTE format(
            'CREATE %s INDEX %I ON %s',
            CASE WHEN is_unique THEN 'UNIQUE' ELSE '' END, index_name, target);
    END IF;
END
$$;

-- Give a column without zone a zone: what it holds is read as UTC.
CREATE OR REPLACE FUNCTION llm_add_time_zone(table_name text, column_name text)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(table_name)) AND attname = column_name
          AND atttypid = 'timestamp'::regtype
    ) THEN
        -- A default is an expression of the old type, so it goes first; callers set it again.
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I DROP DEFAULT', table_name, column_name);
        EXECUTE format(
            'ALTER TABLE %1$I ALTER COLUMN %2$I TYPE timestamptz USING %2$I AT TIME ZONE ''UTC''',
            table_name, column_name);
    END IF;
END
$$;

-- Save what a host has under this name, then drop every overload. Call before CREATE FUNCTION.
CREATE OR REPLACE FUNCTION llm_replace_function(function_name text)
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    signature regprocedure;
BEGIN
    PERFORM llm_register('function', function_name, count(*) > 0,
                         string_agg(pg_get_functiondef(oid), E';\n'))
    FROM pg_proc WHERE proname = function_name AND pronamespace = quote_ident(current_schema())::regnamespace;
    FOR signature IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE proname = function_name AND pronamespace = quote_ident(current_schema())::regnamespace
    LOOP
        EXECUTE format('DROP FUNCTION %s', signature);
    END LOOP;
END
$$;

-- Close tables and functions by name. Supabase's default privileges grant to anon and
-- authenticated, which a revoke from PUBLIC alone would leave in place.
CREATE OR REPLACE FUNCTION llm_lock_down(tables text[], functions text[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    closed text := 'PUBLIC';
    back_end boolean := EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role');
    target text;
    kind text;
BEGIN
    SELECT concat_ws(', ', closed, string_agg(quote_ident(rolname), ', ')) INTO closed
    FROM pg_roles WHERE rolname IN ('anon', 'authenticated');
    -- In public everybody has it; asking first leaves no trace there for a rollback to find.
    IF back_end AND NOT has_schema_privilege('service_role', current_schema(), 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO service_role', current_schema());
    END IF;
    FOREACH target IN ARRAY tables LOOP
        PERFORM llm_register('table', target, false, NULL);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
    END LOOP;
    FOREACH target IN ARRAY functions LOOP
        PERFORM llm_register('function', target, false, NULL);
    END LOOP;
    FOR kind, target IN
        SELECT 'TABLE', quote_ident(name) FROM unnest(tables) AS name
        UNION ALL
        SELECT 'SEQUENCE', objid::regclass::text FROM pg_depend
        JOIN pg_class ON pg_class.oid = objid AND relkind = 'S'
        WHERE refobjid IN (SELECT quote_ident(name)::regclass FROM unnest(tables) AS name)
          AND deptype IN ('a', 'i')
        UNION ALL
        SELECT 'FUNCTION', pg_proc.oid::regprocedure::text FROM pg_proc
        WHERE proname = ANY (functions) AND pronamespace = quote_ident(current_schema())::regnamespace
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', kind, target, closed);
        IF back_end THEN
            EXECUTE format('GRANT ALL ON %s %s TO service_role', kind, target);
        END IF;
    END LOOP;
END
$$;

-- For rollbacks: drop what migrations made, give a host its own function back.
CREATE OR REPLACE FUNCTION llm_drop_functions(functions text[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    target text;
    saved text;
    signature regprocedure;
BEGIN
    FOREACH target IN ARRAY functions LOOP
        FOR signature IN
            SELECT oid::regprocedure FROM pg_proc
            WHERE proname = target AND pronamespace = quote_ident(current_schema())::regnamespace
        LOOP
            EXECUTE format('DROP FUNCTION %s', signature);
        END LOOP;
        DELETE FROM llm_objects WHERE kind = 'function' AND name = target
        RETURNING definition INTO saved;
        IF saved IS NOT NULL THEN
            EXECUTE saved;
        END IF;
    END LOOP;
END
$$;

-- For rollbacks: drop columns of a table, except those that were the host's.
CREATE OR REPLACE FUNCTION llm_drop_columns(table_name text, columns text[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    target text;
    ours boolean;
BEGIN
    FOREACH target IN ARRAY columns LOOP
        DELETE FROM llm_objects WHERE kind = 'column' AND name = table_name || '.' || target
        RETURNING NOT adopted INTO ours;
        IF ours THEN
            EXECUTE format('ALTER TABLE %I DROP COLUMN IF EXISTS %I', table_name, target);
        END IF;
    END LOOP;
END
$$;

-- For rollbacks: drop indexes, except those that were the host's.
CREATE OR REPLACE FUNCTION llm_drop_indexes(indexes text[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    target text;
    ours boolean;
BEGIN
    FOREACH target IN ARRAY indexes LOOP
        DELETE FROM llm_objects WHERE kind = 'index' AND name = target
        RETURNING NOT adopted INTO ours;
        IF ours THEN
            EXECUTE format('DROP INDEX IF EXISTS %I', target);
        END IF;
    END LOOP;
END
$$;

-- For rollbacks: drop tables; of a host's own table only the columns that were added.
CREATE OR REPLACE FUNCTION llm_drop_tables(tables text[])
RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    target text;
    ours boolean;
BEGIN
    FOREACH target IN ARRAY tables LOOP
        DELETE FROM llm_objects WHERE kind = 'table' AND name = target
        RETURNING NOT adopted INTO ours;
        IF ours THEN
            EXECUTE format('DROP TABLE IF EXISTS %I', target);
            DELETE FROM llm_objects WHERE kind = 'column' AND starts_with(name, target || '.');
        ELSE
            PERFORM llm_drop_columns(target, array_agg(substr(name, length(target) + 2)))
            FROM llm_objects WHERE kind = 'column' AND starts_with(name, target || '.')
            HAVING count(*) > 0;
        END IF;
    END LOOP;
END
$$;

-- ---------------------------------------------------------------- projects

SELECT llm_begin_table('llm_projects');
CREATE TABLE IF NOT EXISTS llm_projects (
    project text PRIMARY KEY,
    timezone text NOT NULL DEFAULT 'UTC'
);

-- Today in the project's zone.
SELECT llm_replace_function('llm_today');
CREATE FUNCTION llm_today(project text) RETURNS date
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT (clock_timestamp() AT TIME ZONE coalesce(
        (SELECT timezone FROM llm_projects WHERE llm_projects.project = llm_today.project),
        'UTC'))::date
$$;

-- ---------------------------------------------------------------- web_search_cache

SELECT llm_begin_table('web_search_cache');
CREATE TABLE IF NOT EXISTS web_search_cache (
    cache_key text PRIMARY KEY,
    query text NOT NULL,
    results jsonb,
    cached_at timestamptz NOT NULL DEFAULT now(),
    hit_count integer DEFAULT 0
);
ALTER TABLE web_search_cache ALTER COLUMN results DROP NOT NULL;
SELECT llm_add_time_zone('web_search_cache', 'cached_at');
ALTER TABLE web_search_cache ALTER COLUMN cached_at SET DEFAULT now();
SELECT llm_add_column('web_search_cache', 'project', 'text');
SELECT llm_add_column('web_search_cache', 'engine', 'text');
SELECT llm_add_column('web_search_cache', 'params', 'jsonb');
SELECT llm_add_column('web_search_cache', 'state', 'text NOT NULL DEFAULT ''ready''');
SELECT llm_add_column('web_search_cache', 'lease_owner', 'text');
SELECT llm_add_column('web_search_cache', 'lease_until', 'timestamptz');
SELECT llm_add_column('web_search_cache', 'expires_at', 'timestamptz');
SELECT llm_add_column('web_search_cache', 'result_count', 'integer');
SELECT llm_add_column('web_search_cache', 'last_hit_at', 'timestamptz');
SELECT llm_add_index('idx_web_search_cached_at', 'web_search_cache (cached_at)', false);
SELECT llm_add_index('idx_web_search_query', 'web_search_cache (query)', false);

-- ---------------------------------------------------------------- cost_tracking: the ledger

SELECT llm_begin_table('cost_tracking');
CREATE TABLE IF NOT EXISTS cost_tracking (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    model text NOT NULL,
    step text,
    cost_usd numeric(20, 12),
    tokens_used integer,
    timestamp timestamptz NOT NULL DEFAULT now(),
    project text
);
ALTER TABLE cost_tracking
    ALTER COLUMN cost_usd DROP NOT NULL,
    ALTER COLUMN cost_usd TYPE numeric(20, 12),
    ALTER COLUMN project DROP DEFAULT;
SELECT llm_add_time_zone('cost_tracking', 'timestamp');
ALTER TABLE cost_tracking ALTER COLUMN timestamp SET DEFAULT now();
SELECT llm_add_column('cost_tracking', 'operation_id', 'uuid');
SELECT llm_add_column('cost_tracking', 'attempt_no', 'integer');
SELECT llm_add_column('cost_tracking', 'kind', 'text CONSTRAINT cost_tracking_kind_check CHECK (kind IN (''first'', ''retry'', ''fallback'', ''reask'', ''search'', ''external'', ''lease_loss''))');
SELECT llm_add_column('cost_tracking', 'status', 'text CONSTRAINT cost_tracking_status_check CHECK (status IN (''ok'', ''error'', ''cancelled'', ''estimated''))');
SELECT llm_add_column('cost_tracking', 'error_class', 'text');
SELECT llm_add_column('cost_tracking', 'provider', 'text');
SELECT llm_add_column('cost_tracking', 'requested_model', 'text');
SELECT llm_add_column('cost_tracking', 'key_alias', 'text');
SELECT llm_add_column('cost_tracking', 'task', 'text');
SELECT llm_add_column('cost_tracking', 'user_id', 'text');
SELECT llm_add_column('cost_tracking', 'run_id', 'uuid');
SELECT llm_add_column('cost_tracking', 'job_id', 'text');
SELECT llm_add_column('cost_tracking', 'tags', 'text[]');
SELECT llm_add_column('cost_tracking', 'input_tokens', 'bigint');
SELECT llm_add_column('cost_tracking', 'output_tokens', 'bigint');
SELECT llm_add_column('cost_tracking', 'cached_input_tokens', 'bigint');
SELECT llm_add_column('cost_tracking', 'cache_write_tokens', 'bigint');
SELECT llm_add_column('cost_tracking', 'reasoning_tokens', 'bigint');
SELECT llm_add_column('cost_tracking', 'cost_source', 'text');
SELECT llm_add_column('cost_tracking', 'price_version', 'text');
SELECT llm_add_column('cost_tracking', 'latency_ms', 'integer');
SELECT llm_add_column('cost_tracking', 'prompt_id', 'text');
SELECT llm_add_column('cost_tracking', 'prompt_version', 'text');
SELECT llm_add_column('cost_tracking', 'prompt_hash', 'text');
SELECT llm_add_column('cost_tracking', 'arm', 'text');
SELECT llm_add_column('cost_tracking', 'accounted_on', 'date');
SELECT llm_add_column('cost_tracking', 'over_hold', 'boolean NOT NULL DEFAULT false');
UPDATE cost_tracking
SET operation_id = id, attempt_no = 1, kind = 'external', status = 'ok',
    accounted_on = (timestamp AT TIME ZONE 'UTC')::date
WHERE operation_id IS NULL;
-- Defaults, so that a host's old code that inserts the plan's columns still fits and is counted.
ALTER TABLE cost_tracking
    ALTER COLUMN operation_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN operation_id SET NOT NULL,
    ALTER COLUMN attempt_no SET DEFAULT 1,
    ALTER COLUMN attempt_no SET NOT NULL,
    ALTER COLUMN kind SET DEFAULT 'external',
    ALTER COLUMN kind SET NOT NULL,
    ALTER COLUMN status SET DEFAULT 'ok',
    ALTER COLUMN status SET NOT NULL,
    ALTER COLUMN accounted_on SET DEFAULT (clock_timestamp() AT TIME ZONE 'UTC')::date,
    ALTER COLUMN accounted_on SET NOT NULL;
SELECT llm_add_index('idx_cost_timestamp', 'cost_tracking ("timestamp")', false);
SELECT llm_add_index('idx_cost_model', 'cost_tracking (model)', false);
SELECT llm_add_index('idx_cost_step', 'cost_tracking (step)', false);
SELECT llm_add_index('idx_cost_operation', 'cost_tracking (operation_id, attempt_no)', true);
SELECT llm_add_index('idx_cost_project_day', 'cost_tracking (project, accounted_on)', false);
SELECT llm_add_index('idx_cost_run_id', 'cost_tracking (run_id)', false);

-- ---------------------------------------------------------------- runs and their steps

SELECT llm_begin_table('pipeline_jobs');
CREATE TABLE IF NOT EXISTS pipeline_jobs (
    id text PRIMARY KEY,
    project text NOT NULL,
    pipeline text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    status text NOT NULL,
    options jsonb,
    budget_usd numeric(20, 12)
);
SELECT llm_add_index('idx_pipeline_jobs_project', 'pipeline_jobs (project, pipeline, created_at)', false);

SELECT llm_begin_table('pipeline_runs');
CREATE TABLE IF NOT EXISTS pipeline_runs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    bill_id text,
    jurisdiction text,
    research_model text,
    generate_model text,
    review_model text,
    status text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    analysis_json jsonb,
    review_json jsonb,
    review_passed boolean,
    quality_score numeric(3, 2),
    error_message text
);
ALTER TABLE pipeline_runs
    ALTER COLUMN bill_id DROP NOT NULL,
    ALTER COLUMN generate_model DROP NOT NULL,
    ALTER COLUMN review_model DROP NOT NULL,
    DROP CONSTRAINT IF EXISTS pipeline_runs_status_check;
ALTER TABLE pipeline_runs ADD CONSTRAINT pipeline_runs_status_check CHECK (status IN (
    'running', 'completed', 'failed', 'insufficient_evidence', 'cancelled', 'paused'));
SELECT llm_add_time_zone('pipeline_runs', 'started_at');
SELECT llm_add_time_zone('pipeline_runs', 'completed_at');
ALTER TABLE pipeline_runs ALTER COLUMN started_at SET DEFAULT now();
SELECT llm_add_column('pipeline_runs', 'project', 'text');
SELECT llm_add_column('pipeline_runs', 'pipeline', 'text');
SELECT llm_add_column('pipeline_runs', 'unit_key', 'text');
SELECT llm_add_column('pipeline_runs', 'job_id', 'text');
SELECT llm_add_column('pipeline_runs', 'input_hash', 'text');
SELECT llm_add_column('pipeline_runs', 'options', 'jsonb');
SELECT llm_add_column('pipeline_runs', 'owner', 'text');
SELECT llm_add_column('pipeline_runs', 'fence', 'bigint NOT NULL DEFAULT 0');
SELECT llm_add_column('pipeline_runs', 'error_class', 'text');
SELECT llm_add_column('pipeline_runs', 'confidence', 'numeric(4, 3)');
SELECT llm_add_column('pipeline_runs', 'updated_at', 'timestamptz NOT NULL DEFAULT now()');
SELECT llm_add_index('idx_pipeline_bill_id', 'pipeline_runs (bill_id)', false);
SELECT llm_add_index('idx_pipeline_status', 'pipeline_runs (status)', false);
SELECT llm_add_index('idx_pipeline_started_at', 'pipeline_runs (started_at)', false);
SELECT llm_add_index('idx_pipeline_runs_unit', 'pipeline_runs (project, pipeline, unit_key, input_hash)', true);
SELECT llm_add_index('idx_pipeline_runs_job_id', 'pipeline_runs (job_id)', false);

SELECT llm_begin_table('pipeline_steps');
CREATE TABLE IF NOT EXISTS pipeline_steps (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id uuid NOT NULL REFERENCES pipeline_runs (id) ON DELETE CASCADE,
    step text NOT NULL,
    model text,
    output jsonb,
    timestamp timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE pipeline_steps
    ALTER COLUMN model DROP NOT NULL,
    DROP CONSTRAINT IF EXISTS pipeline_steps_step_check;
SELECT llm_add_time_zone('pipeline_steps', 'timestamp');
ALTER TABLE pipeline_steps ALTER COLUMN timestamp SET DEFAULT now();
SELECT llm_add_column('pipeline_steps', 'project', 'text');
SELECT llm_add_column('pipeline_steps', 'key', 'text');
SELECT llm_add_column('pipeline_steps', 'input_hash', 'text');
SELECT llm_add_column('pipeline_steps', 'version', 'integer');
SELECT llm_add_column('pipeline_steps', 'state', 'text CONSTRAINT pipeline_steps_state_check CHECK (state IN (''intent'', ''done'', ''failed''))');
SELECT llm_add_column('pipeline_steps', 'fence', 'bigint');
SELECT llm_add_column('pipeline_steps', 'owner', 'text');
SELECT llm_add_column('pipeline_steps', 'attempt', 'integer');
SELECT llm_add_column('pipeline_steps', 'started_at', 'timestamptz');
SELECT llm_add_column('pipeline_steps', 'finished_at', 'timestamptz');
SELECT llm_add_column('pipeline_steps', 'error_class', 'text');
SELECT llm_add_column('pipeline_steps', 'output_hash', 'text');
SELECT llm_add_index('idx_pipeline_steps_run_id', 'pipeline_steps (run_id)', false);
SELECT llm_add_index('idx_pipeline_steps_answer', 'pipeline_steps (project, step, key, input_hash, version)', false);
SELECT llm_add_index('idx_pipeline_steps_key', 'pipeline_steps (run_id, step, key)', true);

-- Outputs over 64 kB, by the hash of their canonical JSON.
SELECT llm_begin_table('llm_blobs');
CREATE TABLE IF NOT EXISTS llm_blobs (
    hash text PRIMARY KEY,
    content jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- ---------------------------------------------------------------- functions for admins

SELECT llm_replace_function('get_daily_cost');
CREATE FUNCTION get_daily_cost(target_date date, target_project text DEFAULT NULL)
RETURNS TABLE (total_cost numeric, unpriced bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE cost_usd IS NULL)
    FROM cost_tracking
    WHERE accounted_on = target_date AND (target_project IS NULL OR project = target_project)
$$;

SELECT llm_replace_function('get_monthly_cost');
CREATE FUNCTION get_monthly_cost(
    target_year integer, target_month integer, target_project text DEFAULT NULL
) RETURNS TABLE (total_cost numeric, unpriced bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE cost_usd IS NULL)
    FROM cost_tracking
    WHERE accounted_on >= make_date(target_year, target_month, 1)
      AND accounted_on < make_date(target_year, target_month, 1) + interval '1 month'
      AND (target_project IS NULL OR project = target_project)
$$;

-- Both dates are inclusive.
SELECT llm_replace_function('get_cost_breakdown');
CREATE FUNCTION get_cost_breakdown(
    start_date date, end_date date, group_by text, target_project text DEFAULT NULL
) RETURNS TABLE (key text, total_cost numeric, calls bigint, tokens bigint, unpriced bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF group_by NOT IN ('model', 'step', 'project', 'user', 'task', 'day', 'run', 'status')
       OR group_by IS NULL THEN
        RAISE EXCEPTION 'group_by is model, step, project, user, task, day, run or status'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    SELECT CASE group_by
               WHEN 'model' THEN ledger.model
               WHEN 'step' THEN ledger.step
               WHEN 'project' THEN ledger.project
               WHEN 'user' THEN ledger.user_id
               WHEN 'task' THEN ledger.task
               WHEN 'day' THEN ledger.accounted_on::text
               WHEN 'run' THEN ledger.run_id::text
               ELSE ledger.status
           END AS label,
           coalesce(sum(ledger.cost_usd), 0),
           count(*),
           coalesce(sum(ledger.tokens_used), 0)::bigint,
           count(*) FILTER (WHERE ledger.cost_usd IS NULL)
    FROM cost_tracking AS ledger
    WHERE ledger.accounted_on BETWEEN start_date AND end_date
      AND (target_project IS NULL OR ledger.project = target_project)
    GROUP BY label
    ORDER BY CASE WHEN group_by = 'day' THEN 0 ELSE -coalesce(sum(ledger.cost_usd), 0) END, label;
END
$$;

-- How the models that did a step compare; NULL compares them over every step. Dates are inclusive.
SELECT llm_replace_function('compare_models');
CREATE FUNCTION compare_models(start_date date, end_date date, step text)
RETURNS TABLE (
    model text, calls bigint, ok bigint, errors bigint, avg_latency_ms numeric,
    total_cost numeric, unpriced bigint, avg_quality numeric
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH ledger AS (
        SELECT * FROM cost_tracking AS c
        WHERE c.accounted_on BETWEEN start_date AND end_date
          AND (compare_models.step IS NULL OR c.step = compare_models.step)
    ), quality AS (
        SELECT used.model, avg(runs.quality_score) AS score
        FROM (SELECT DISTINCT l.model, l.run_id FROM ledger AS l) AS used
        JOIN pipeline_runs AS runs ON runs.id = used.run_id
        GROUP BY used.model
    )
    SELECT l.model, count(*), count(*) FILTER (WHERE l.status = 'ok'),
           count(*) FILTER (WHERE l.status = 'error'), round(avg(l.latency_ms), 1),
           coalesce(sum(l.cost_usd), 0), count(*) FILTER (WHERE l.cost_usd IS NULL),
           round(min(q.score), 3)
    FROM ledger AS l LEFT JOIN quality AS q ON q.model = l.model
    GROUP BY l.model
    ORDER BY 6 DESC, 1
$$;

-- The same sums with money as text, which PostgREST would turn into floats.
-- {kind: daily, day, project} | {kind: monthly, year, month, project}
-- | {kind: breakdown, start, end, group_by, project} | {kind: compare, start, end, step}
SELECT llm_replace_function('llm_costs');
CREATE FUNCTION llm_costs(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    answer jsonb;
BEGIN
    CASE payload ->> 'kind'
    WHEN 'daily' THEN
        SELECT jsonb_build_object('total_cost', trim_scale(total_cost)::text, 'unpriced', unpriced)
        INTO answer FROM get_daily_cost((payload ->> 'day')::date, payload ->> 'project');
    WHEN 'monthly' THEN
        SELECT jsonb_build_object('total_cost', trim_scale(total_cost)::text, 'unpriced', unpriced)
        INTO answer FROM get_monthly_cost(
            (payload ->> 'year')::integer, (payload ->> 'month')::integer, payload ->> 'project');
    WHEN 'breakdown' THEN
        SELECT jsonb_build_object('rows', coalesce(jsonb_agg(jsonb_build_object(
            'key', key, 'total_cost', trim_scale(total_cost)::text, 'calls', calls,
            'tokens', tokens, 'unpriced', unpriced) ORDER BY position), '[]'))
        INTO answer FROM get_cost_breakdown(
            (payload ->> 'start')::date, (payload ->> 'end')::date,
            payload ->> 'group_by', payload ->> 'project')
            WITH ORDINALITY AS sums (key, total_cost, calls, tokens, unpriced, position);
    WHEN 'compare' THEN
        SELECT jsonb_build_object('rows', coalesce(jsonb_agg(jsonb_build_object(
            'model', model, 'calls', calls, 'ok', ok, 'errors', errors,
            'avg_latency_ms', avg_latency_ms::text, 'total_cost', trim_scale(total_cost)::text,
            'unpriced', unpriced, 'avg_quality', avg_quality::text) ORDER BY position), '[]'))
        INTO answer FROM compare_models(
            (payload ->> 'start')::date, (payload ->> 'end')::date, payload ->> 'step')
            WITH ORDINALITY AS models (
                model, calls, ok, errors, avg_latency_ms, total_cost, unpriced, avg_quality, position);
    ELSE
        RAISE EXCEPTION 'kind is daily, monthly, breakdown or compare'
            USING ERRCODE = 'invalid_parameter_value';
    END CASE;
    RETURN answer;
END
$$;

SELECT llm_replace_function('cleanup_search_cache');
CREATE FUNCTION cleanup_search_cache() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DELETE FROM web_search_cache
    WHERE coalesce(expires_at, cached_at + interval '24 hours') < clock_timestamp()
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
$$;

-- Which contract the functions keep. The library works with its own number and the one before.
SELECT llm_replace_function('llm_schema');
CREATE FUNCTION llm_schema(payload jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT jsonb_build_object('version', 1)
$$;

SELECT llm_lock_down(
    ARRAY['llm_migrations', 'llm_objects', 'llm_projects', 'web_search_cache', 'cost_tracking',
          'pipeline_jobs', 'pipeline_runs', 'pipeline_steps', 'llm_blobs'],
    ARRAY['llm_register', 'llm_begin_table', 'llm_add_column', 'llm_add_index',
          'llm_add_time_zone', 'llm_replace_function', 'llm_lock_down', 'llm_drop_functions',
          'llm_drop_columns', 'llm_drop_indexes', 'llm_drop_tables', 'llm_today',
          'get_daily_cost', 'get_monthly_cost', 'get_cost_breakdown', 'compare_models',
          'llm_costs', 'cleanup_search_cache', 'llm_schema']);

NOTIFY pgrst, 'reload schema';
