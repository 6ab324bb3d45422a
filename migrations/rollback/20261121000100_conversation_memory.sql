-- Undo conversations. A host's own table stays, with its rows and its columns.

DROP TRIGGER llm_number_message ON conversations;
DROP POLICY llm_own_messages ON conversations;
SELECT llm_drop_functions(ARRAY[
    'cleanup_conversations', 'llm_conversation', 'llm_save_messages', 'llm_conversation_user',
    'llm_number_message']);
SELECT llm_drop_indexes(ARRAY[
    'idx_conversations_user_id', 'idx_conversations_timestamp', 'idx_conversations_order',
    'idx_conversations_message']);
SELECT llm_drop_tables(ARRAY['conversations']);

NOTIFY pgrst, 'reload schema';
