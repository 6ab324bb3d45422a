-- Undo the shared tables. What was the host's before stays, with its rows and its columns.

SELECT llm_drop_functions(ARRAY[
    'llm_schema', 'cleanup_search_cache', 'llm_costs', 'compare_models', 'get_cost_breakdown',
    'get_monthly_cost', 'get_daily_cost', 'llm_today']);
SELECT llm_drop_indexes(ARRAY[
    'idx_web_search_cached_at', 'idx_web_search_query', 'idx_cost_timestamp', 'idx_cost_model',
    'idx_cost_step', 'idx_cost_operation', 'idx_cost_project_day', 'idx_cost_run_id',
    'idx_pipeline_jobs_project', 'idx_pipeline_bill_id', 'idx_pipeline_status',
    'idx_pipeline_started_at', 'idx_pipeline_runs_unit', 'idx_pipeline_runs_job_id',
    'idx_pipeline_steps_run_id', 'idx_pipeline_steps_answer', 'idx_pipeline_steps_key']);
SELECT llm_drop_tables(ARRAY[
    'llm_blobs', 'pipeline_steps', 'pipeline_runs', 'pipeline_jobs', 'cost_tracking',
    'web_search_cache', 'llm_projects']);

DROP FUNCTION llm_drop_tables(text[]);
DROP FUNCTION llm_drop_indexes(text[]);
DROP FUNCTION llm_drop_columns(text, text[]);
DROP FUNCTION llm_drop_functions(text[]);
DROP FUNCTION llm_lock_down(text[], text[]);
DROP FUNCTION llm_replace_function(text);
DROP FUNCTION llm_add_time_zone(text, text);
DROP FUNCTION llm_add_index(text, text, boolean);
DROP FUNCTION llm_add_column(text, text, text);
DROP FUNCTION llm_begin_table(text);
DROP FUNCTION llm_register(text, text, boolean, text);
DROP TABLE llm_objects;
DROP TABLE llm_migrations;

NOTIFY pgrst, 'reload schema';
