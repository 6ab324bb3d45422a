DROP FUNCTION IF EXISTS llm_host_turn(jsonb);
DROP TABLE IF EXISTS llm_hosts;
DROP FUNCTION IF EXISTS llm_runs_side(jsonb);
DROP FUNCTION IF EXISTS llm_job_units(jsonb);
DROP FUNCTION IF EXISTS llm_job_progress(jsonb);
DROP FUNCTION IF EXISTS llm_jobs(jsonb);
DROP FUNCTION IF EXISTS llm_job_delete(jsonb);
DROP FUNCTION IF EXISTS llm_units_requeue(jsonb);
DROP FUNCTION IF EXISTS llm_job_control(jsonb);
DROP FUNCTION IF EXISTS llm_units_back(uuid[]);
DROP FUNCTION IF EXISTS llm_job_settle(jsonb);
DROP FUNCTION IF EXISTS llm_units_reap(jsonb);
DROP FUNCTION IF EXISTS llm_worker_beat(jsonb);
DROP FUNCTION IF EXISTS llm_units_write(jsonb);
DROP FUNCTION IF EXISTS llm_units_claim(jsonb);
DROP FUNCTION IF EXISTS llm_job_begin(jsonb);
DROP FUNCTION IF EXISTS llm_job_seal(jsonb);
DROP FUNCTION IF EXISTS llm_units_add(jsonb);
DROP FUNCTION IF EXISTS llm_job_open(jsonb);
DROP TABLE IF EXISTS llm_units;
DROP TABLE IF EXISTS llm_workers;

ALTER TABLE pipeline_steps RESET (fillfactor);

-- The schema before knows these two states by other names.
UPDATE pipeline_runs SET status = 'paused' WHERE status = 'queued';
UPDATE pipeline_runs SET status = 'cancelled' WHERE status = 'skipped';
ALTER TABLE pipeline_runs DROP CONSTRAINT IF EXISTS pipeline_runs_status_check;
ALTER TABLE pipeline_runs ADD CONSTRAINT pipeline_runs_status_check CHECK (status IN (
    'running', 'completed', 'failed', 'insufficient_evidence', 'cancelled', 'paused'));

SELECT llm_drop_indexes(ARRAY[
    'idx_pipeline_jobs_idempotency', 'idx_pipeline_runs_job_ordinal', 'idx_cost_tracking_job_id']);
SELECT llm_add_index('idx_pipeline_runs_job_id', 'pipeline_runs (job_id)', false);
SELECT llm_drop_columns('pipeline_steps', ARRAY['repeats']);
SELECT llm_drop_columns('pipeline_runs', ARRAY[
    'ordinal', 'input', 'output', 'outcome', 'fault', 'tries', 'interruptions', 'versions']);
SELECT llm_drop_columns('pipeline_jobs', ARRAY[
    'version', 'total', 'idempotency_key', 'request_hash', 'started_at', 'completed_at', 'error_message']);

NOTIFY pgrst, 'reload schema';
