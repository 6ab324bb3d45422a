DROP FUNCTION IF EXISTS llm_runs(jsonb);
DROP FUNCTION IF EXISTS llm_job_record(jsonb);
DROP FUNCTION IF EXISTS llm_run_finish(jsonb);
DROP FUNCTION IF EXISTS llm_step_finish(jsonb);
DROP FUNCTION IF EXISTS llm_step_begin(jsonb);
DROP FUNCTION IF EXISTS llm_find_step(jsonb, text);
DROP FUNCTION IF EXISTS llm_step_output(pipeline_steps);
DROP FUNCTION IF EXISTS llm_run_holds(uuid, bigint);
DROP FUNCTION IF EXISTS llm_run_start(jsonb);
