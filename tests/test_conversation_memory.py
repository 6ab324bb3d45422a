"""A user's conversation: in order, bounded, their own."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import psycopg
import pytest
from supabase import acreate_client

from llm_common import context
from llm_common.conversation_memory import ConversationMemory
from llm_common.errors import ConfigurationError, InvalidInputError
from tests.servers import execute, fetch

USER = "6f9d5e2c-4a56-4d8c-9a39-0f3a1d7f2b11"


@pytest.fixture
def memory(db):
    return ConversationMemory(db_client=db, user_id=USER, max_history=4, project="chat")


async def test_what_was_said_comes_back_in_order(memory):
    assert await memory.get_context() == []
    await memory.save_message("user", "What is my balance?")
    await memory.save_message("assistant", "Ten dollars.")
    assert await memory.get_context() == [
        {"role": "user", "content": "What is my balance?"},
        {"role": "assistant", "content": "Ten dollars."},
    ]


async def test_the_page_goes_ahead_of_the_history(memory):
    await memory.save_message("user", "hello", page="tax")
    assert await memory.get_context(page="portfolio") == [
        {"role": "system", "content": "The user is on the page 'portfolio'."},
        {"role": "user", "content": "hello"},
    ]


async def test_only_the_last_messages_are_returned(memory):
    for number in range(6):
        await memory.save_message("user", str(number))
    assert [message["content"] for message in await memory.get_context()] == ["2", "3", "4", "5"]


async def test_equal_timestamps_do_not_shuffle(memory, db, database_url):
    ids = [str(uuid4()) for _ in range(50)]
    messages = [
        {"message_id": id_, "role": "user", "content": str(number)}
        for number, id_ in enumerate(ids)
    ]
    await db.call("llm_save_messages", {"user_id": USER, "project": "chat", "messages": messages})
    execute(database_url, "UPDATE conversations SET timestamp = '2026-01-01'")
    assert [m["content"] for m in await memory.get_context()] == ["46", "47", "48", "49"]
    assert fetch(database_url, "SELECT content::int + 1 = seq FROM conversations") == [(True,)] * 50


async def test_saving_at_once_numbers_without_gaps(memory, database_url):
    await asyncio.gather(*(memory.save_message("user", str(n)) for n in range(20)))
    numbers = fetch(database_url, "SELECT seq FROM conversations ORDER BY seq")
    assert [number for (number,) in numbers] == list(range(1, 21))


async def test_the_same_id_is_one_message(memory):
    identifier = uuid4()
    saved = await asyncio.gather(
        *(memory.save_message("user", "once", message_id=identifier) for _ in range(4))
    )
    assert set(saved) == {str(identifier)}
    assert await memory.get_context() == [{"role": "user", "content": "once"}]


async def test_an_id_of_another_user_reveals_nothing(memory, db):
    identifier = await memory.save_message("user", "mine")
    answer = await db.call(
        "llm_save_messages",
        {
            "user_id": uuid4(),
            "messages": [{"message_id": identifier, "role": "user", "content": "theirs"}],
        },
    )
    assert answer == {"messages": []}
    assert await memory.get_context() == [{"role": "user", "content": "mine"}]


async def test_users_and_projects_do_not_mix(db):
    mine = ConversationMemory(db, USER, project="chat")
    other = ConversationMemory(db, uuid4(), project="chat")
    elsewhere = ConversationMemory(db, USER, project="bills")
    await mine.save_message("user", "mine")
    assert await other.get_context() == []
    assert await elsewhere.get_context() == []


async def test_a_hosts_old_insert_takes_its_place(memory, database_url):
    await memory.save_message("user", "first")
    execute(
        database_url,
        f"INSERT INTO conversations (user_id, role, content) VALUES ('{USER}', 'user', 'old code')",
    )
    await memory.save_message("user", "third")
    contents = [message["content"] for message in await memory.get_context()]
    assert contents == ["first", "old code", "third"]


async def test_the_label_in_force_is_the_project(db, database_url, monkeypatch):
    memory = ConversationMemory(db, USER)
    monkeypatch.delenv("LLM_COMMON_PROJECT", raising=False)
    with pytest.raises(ConfigurationError, match="project"):
        await memory.save_message("user", "nowhere")
    with context.labels(project="labelled"):
        await memory.save_message("user", "hello")
    assert fetch(database_url, "SELECT project FROM conversations") == [("labelled",)]


async def test_metadata_and_page_are_kept(memory, database_url):
    await memory.save_message("assistant", "x", "tax", metadata={"operation_id": "1"})
    await memory.save_message("assistant", "y")
    assert fetch(database_url, "SELECT page, metadata FROM conversations ORDER BY seq") == [
        ("tax", {"operation_id": "1"}),
        (None, None),
    ]


async def test_old_messages_are_cleaned_up(memory, database_url):
    await memory.save_message("user", "old")
    execute(database_url, "UPDATE conversations SET timestamp = now() - interval '91 days'")
    await memory.save_message("user", "new")
    execute(database_url, "SELECT cleanup_conversations()")
    assert await memory.get_context() == [{"role": "user", "content": "new"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user_id": "42"}, "user_id must be a UUID"),
        ({"user_id": ""}, "user_id must be a UUID"),
        ({"user_id": USER, "max_history": -1}, "max_history=-1"),
    ],
)
async def test_wrong_arguments_are_named(db, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        ConversationMemory(db, **arguments)


async def test_wrong_messages_are_named(memory):
    with pytest.raises(InvalidInputError, match="role='tool'"):
        await memory.save_message("tool", "x")
    with pytest.raises(InvalidInputError, match="message_id must be a UUID"):
        await memory.save_message("user", "x", message_id="1")
    assert await memory.get_context() == []


async def test_nobody_named_is_an_error():
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        ConversationMemory(user_id=USER)


async def test_through_the_supabase_client(supabase_lite):
    client = await acreate_client(supabase_lite.url, supabase_lite.secret_key)
    user = uuid4()
    memory = ConversationMemory(db_client=client, user_id=user, project="chat")
    await memory.save_message("user", "hello")
    assert await memory.get_context() == [{"role": "user", "content": "hello"}]
    await client.postgrest.session.aclose()


class TestSignedIn:
    """A user's token decides whose conversation it is, where a host grants users access."""

    @pytest.fixture
    def as_user(self, database_url):
        execute(
            database_url,
            "GRANT SELECT, INSERT ON conversations TO authenticated, anon;"
            "GRANT EXECUTE ON FUNCTION llm_save_messages, llm_conversation, llm_conversation_user"
            " TO authenticated, anon",
        )

        def call(role: str, claims: dict, function: str, payload: dict):
            with psycopg.connect(database_url) as connection:
                connection.execute(
                    "SELECT set_config('role', %s, true),"
                    " set_config('request.jwt.claims', %s, true)",
                    (role, json.dumps(claims)),
                )
                query = f"SELECT public.{function}(%s::jsonb)"
                return connection.execute(query, (json.dumps(payload),)).fetchone()[0]

        return call

    @staticmethod
    def message(content: str) -> dict:
        return {"message_id": str(uuid4()), "role": "user", "content": content}

    def test_the_token_beats_the_argument(self, as_user):
        claims = {"role": "authenticated", "sub": USER}
        victim = str(uuid4())
        payload = {"user_id": victim, "messages": [self.message("as somebody else")]}
        as_user("authenticated", claims, "llm_save_messages", payload)
        own = as_user("authenticated", claims, "llm_conversation", {"user_id": victim, "limit": 9})
        assert [message["content"] for message in own["messages"]] == ["as somebody else"]
        other = {"role": "authenticated", "sub": victim}
        assert as_user("authenticated", other, "llm_conversation", {"limit": 9}) == {"messages": []}

    def test_without_a_user_nothing_is_told(self, as_user):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_user("anon", {"role": "anon"}, "llm_conversation", {"user_id": USER, "limit": 9})

    async def test_rows_of_others_are_out_of_reach(self, as_user, memory, database_url):
        await memory.save_message("user", "mine")
        with psycopg.connect(database_url) as connection:
            claims = json.dumps({"role": "authenticated", "sub": str(UUID(int=7))})
            connection.execute(
                "SELECT set_config('role', 'authenticated', true),"
                " set_config('request.jwt.claims', %s, true)",
                (claims,),
            )
            assert connection.execute("SELECT * FROM conversations").fetchall() == []
