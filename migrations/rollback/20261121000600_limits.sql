DROP FUNCTION IF EXISTS llm_take_slots(jsonb);
DROP FUNCTION IF EXISTS llm_take_rate(jsonb);
DROP FUNCTION IF EXISTS llm_rate_share(bigint, bigint, bigint, int);
DROP FUNCTION IF EXISTS llm_cooling(jsonb);
DROP FUNCTION IF EXISTS llm_cool(jsonb);
DROP TABLE IF EXISTS llm_slot_leases;
DROP TABLE IF EXISTS llm_rate_windows;
DROP TABLE IF EXISTS llm_cooldowns;
NOTIFY pgrst, 'reload schema';
