DROP FUNCTION IF EXISTS cleanup_response_cache();
DROP FUNCTION IF EXISTS llm_response_stats(jsonb);
DROP FUNCTION IF EXISTS llm_response_release(jsonb);
DROP FUNCTION IF EXISTS llm_response_fill(jsonb);
DROP FUNCTION IF EXISTS llm_response_claim(jsonb);
DROP TABLE IF EXISTS llm_response_cache;
