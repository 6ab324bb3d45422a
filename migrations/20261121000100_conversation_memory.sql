-- Conversations: messages in the order in which they were said.

SELECT llm_begin_table('conversations');
CREATE TABLE IF NOT EXISTS conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    timestamp timestamptz NOT NULL DEFAULT now(),
    page text
);
ALTER TABLE conversations DROP CONSTRAINT IF EXISTS conversations_role_check;
ALTER TABLE conversations ADD CONSTRAINT conversations_role_check
    CHECK (role IN ('user', 'assistant', 'system'));
SELECT llm_add_time_zone('conversations', 'timestamp');
ALTER TABLE conversations ALTER COLUMN timestamp SET DEFAULT now();
SELECT llm_add_column('conversations', 'project', 'text');
SELECT llm_add_column('conversations', 'seq', 'bigint');
SELECT llm_add_column('conversations', 'message_id', 'uuid');
SELECT llm_add_column('conversations', 'metadata', 'jsonb');
UPDATE conversations SET message_id = conversations.id, seq = numbered.seq
FROM (SELECT id, row_number() OVER (PARTITION BY user_id ORDER BY timestamp, id) AS seq
      FROM conversations) AS numbered
WHERE numbered.id = conversations.id AND conversations.seq IS NULL;
ALTER TABLE conversations
    ALTER COLUMN seq SET NOT NULL,
    ALTER COLUMN message_id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN message_id SET NOT NULL;
SELECT llm_add_index('idx_conversations_user_id', 'conversations (user_id)', false);
SELECT llm_add_index('idx_conversations_timestamp', 'conversations ("timestamp")', false);
SELECT llm_add_index('idx_conversations_order', 'conversations (user_id, seq)', true);
SELECT llm_add_index('idx_conversations_message', 'conversations (message_id)', true);

-- Two messages may carry the same timestamp, so a number given out under the user's lock orders
-- them. A trigger, because a host's old code still inserts without it.
DROP TRIGGER IF EXISTS llm_number_message ON conversations;
SELECT llm_replace_function('llm_number_message');
CREATE FUNCTION llm_number_message() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('llm_common conversations ' || NEW.user_id, 0));
    SELECT coalesce(max(seq), 0) + 1 INTO NEW.seq FROM conversations WHERE user_id = NEW.user_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER llm_number_message BEFORE INSERT ON conversations
    FOR EACH ROW EXECUTE FUNCTION llm_number_message();

-- Nobody but a back end is granted anything. A host that grants its users access gives each
-- their own messages only.
DROP POLICY IF EXISTS llm_own_messages ON conversations;
CREATE POLICY llm_own_messages ON conversations USING (
    user_id::text = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub');

-- Whose conversation it is: a signed-in user's own, whatever the argument says.
SELECT llm_replace_function('llm_conversation_user');
CREATE FUNCTION llm_conversation_user(named text) RETURNS uuid
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    who text := named;
BEGIN
    IF claims ->> 'role' = 'authenticated' THEN
        who := claims ->> 'sub';
    ELSIF claims ->> 'role' = 'anon' THEN
        who := NULL;
    END IF;
    IF who IS NULL THEN
        RAISE EXCEPTION 'no user: sign in, or name one with a service key'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN who::uuid;
END
$$;

-- {user_id, project, messages: [{message_id, role, content, page, metadata}]}
-- -> {messages: [{message_id, seq, timestamp}]}; the same ids again get the same answer.
SELECT llm_replace_function('llm_save_messages');
CREATE FUNCTION llm_save_messages(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    owner uuid := llm_conversation_user(payload ->> 'user_id');
    answer jsonb;
BEGIN
    INSERT INTO conversations (user_id, project, message_id, role, content, page, metadata)
    SELECT owner, payload ->> 'project', (item ->> 'message_id')::uuid, item ->> 'role',
           item ->> 'content', item ->> 'page', nullif(item -> 'metadata', 'null')
    FROM jsonb_array_elements(payload -> 'messages') WITH ORDINALITY AS given (item, position)
    ORDER BY position
    ON CONFLICT (message_id) DO NOTHING;

    SELECT jsonb_build_object('messages', coalesce(jsonb_agg(jsonb_build_object(
        'message_id', saved.message_id, 'seq', saved.seq, 'timestamp', saved.timestamp)
        ORDER BY saved.seq), '[]'))
    INTO answer
    FROM conversations AS saved
    WHERE saved.user_id = owner AND saved.message_id IN (
        SELECT (item ->> 'message_id')::uuid
        FROM jsonb_array_elements(payload -> 'messages') AS item);
    RETURN answer;
END
$$;

-- {user_id, project, limit} -> {messages: [{message_id, seq, role, content, page, timestamp,
-- metadata}]}: the last ones, oldest first. A null project means all; rows from before there were
-- projects belong to every one.
SELECT llm_replace_function('llm_conversation');
CREATE FUNCTION llm_conversation(payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    owner uuid := llm_conversation_user(payload ->> 'user_id');
    wanted text := payload ->> 'project';
    answer jsonb;
BEGIN
    SELECT jsonb_build_object('messages', coalesce(jsonb_agg(jsonb_build_object(
        'message_id', last.message_id, 'seq', last.seq, 'role', last.role,
        'content', last.content, 'page', last.page, 'timestamp', last.timestamp,
        'metadata', last.metadata) ORDER BY last.seq), '[]'))
    INTO answer
    FROM (
        SELECT * FROM conversations AS spoken
        WHERE spoken.user_id = owner
          AND (wanted IS NULL OR spoken.project IS NULL OR spoken.project = wanted)
        ORDER BY spoken.seq DESC
        LIMIT (payload ->> 'limit')::integer
    ) AS last;
    RETURN answer;
END
$$;

SELECT llm_replace_function('cleanup_conversations');
CREATE FUNCTION cleanup_conversations() RETURNS void
LANGUAGE sql SET search_path FROM CURRENT AS $$
    DELETE FROM conversations WHERE timestamp < now() - interval '90 days'
$$;

SELECT llm_lock_down(
    ARRAY['conversations'],
    ARRAY['llm_number_message', 'llm_conversation_user', 'llm_save_messages', 'llm_conversation',
          'cleanup_conversations']);

NOTIFY pgrst, 'reload schema';
