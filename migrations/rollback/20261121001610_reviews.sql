DROP FUNCTION IF EXISTS llm_review_decide(jsonb);
DROP FUNCTION IF EXISTS llm_review_find(jsonb);
DROP FUNCTION IF EXISTS llm_reviews_list(jsonb);
DROP FUNCTION IF EXISTS llm_reviews_put(jsonb);
DROP TABLE IF EXISTS llm_reviews;

NOTIFY pgrst, 'reload schema';
