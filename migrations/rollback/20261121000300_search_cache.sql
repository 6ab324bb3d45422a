DROP FUNCTION IF EXISTS llm_search_stats(jsonb);
DROP FUNCTION IF EXISTS llm_search_release(jsonb);
DROP FUNCTION IF EXISTS llm_search_fill(jsonb);
DROP FUNCTION IF EXISTS llm_search_claim(jsonb);
