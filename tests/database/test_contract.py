"""What every `Database` does: on psycopg, and on the Supabase client, sync and async."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import uuid4

import pytest
from supabase import acreate_client, create_client

from llm_common.database import Database, connect
from llm_common.errors import DatabaseError, InvalidInputError, SchemaError
from tests import postgrest
from tests.servers import execute


class Contract:
    """The promises of `Database`; a subclass brings the connector as the fixture `database`."""

    async def test_a_value_goes_through_a_function_and_back(self, database: Database):
        value = {"text": 'naïve "quotes" \\ \U0001f600', "list": [1, 2.5, None, True], "none": None}
        assert await database.call("test_echo", value) == value

    @pytest.mark.parametrize("value", [[], {}, "text", 7, True, [{"a": []}]])
    async def test_any_json_value_is_an_answer(self, database: Database, value):
        assert await database.call("test_pick", {"value": value}) == value

    async def test_money_ids_and_large_integers_keep_every_digit(self, database: Database):
        key = uuid4()
        payload = {"usd": Decimal("0.000000000001"), "id": key, "nanos": 9_007_199_254_740_991}
        assert await database.call("test_echo", payload) == {
            "usd": "0.000000000001",
            "id": str(key),
            "nanos": 9_007_199_254_740_991,
        }

    async def test_what_jsonb_refuses_is_taken_out(self, database: Database):
        payload = {
            "a\0b": "nul\0 and \ud800 alone",
            "escaped": "\\u0000 stays",
        }
        assert await database.call("test_echo", payload) == {
            "ab": "nul and \ufffd alone",
            "escaped": "\\u0000 stays",
        }

    async def test_a_value_that_is_not_json_is_refused(self, database: Database):
        with pytest.raises(InvalidInputError, match="not JSON"):
            await database.call("test_echo", {"x": float("nan")})

    async def test_a_missing_function_means_not_migrated(self, database: Database):
        with pytest.raises(SchemaError, match="migrate up"):
            await database.call("llm_no_such_function", {})

    async def test_a_failing_function_names_its_code_and_no_text(self, database: Database):
        with pytest.raises(DatabaseError, match="22012") as caught:
            await database.call("test_fail", {"secret": "a prompt"})
        error = caught.value
        assert type(error) is DatabaseError
        assert "prompt" not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__

    async def test_calls_at_once_all_get_their_own_answer(self, database: Database):
        answers = await asyncio.gather(
            *(database.call("test_pick", {"value": n}) for n in range(30))
        )
        assert answers == list(range(30))

    async def test_the_identity_names_the_place_and_no_secret(self, database: Database):
        assert "public" in database.identity
        for secret in ("password", "sb_secret", "service"):
            assert secret not in database.identity
        assert database.identity in repr(database)

    async def test_saving_twice_gives_the_first_answer(self, database: Database):
        payload = {
            "user_id": uuid4(),
            "messages": [{"message_id": uuid4(), "role": "user", "content": "hello"}],
        }
        first = await database.call("llm_save_messages", payload)
        assert await database.call("llm_save_messages", payload) == first

    async def test_sums_of_money_come_as_text(self, database: Database):
        answer = await database.call("llm_costs", {"kind": "daily", "day": "2001-01-01"})
        assert answer == {"total_cost": "0", "unpriced": 0}


class TestPostgres(Contract):
    @pytest.fixture
    def url(self, database_url):
        execute(database_url, postgrest.FUNCTIONS)
        return database_url

    @pytest.fixture
    async def database(self, url):
        database = connect(url)
        yield database
        await database.aclose()


class TestSupabaseSync(Contract):
    @pytest.fixture
    def database(self, supabase_lite):
        client = create_client(supabase_lite.url, supabase_lite.secret_key)
        yield connect(supabase_client=client)
        client.postgrest.session.close()


class TestSupabaseAsync(Contract):
    @pytest.fixture
    async def database(self, supabase_lite):
        client = await acreate_client(supabase_lite.url, supabase_lite.secret_key)
        yield connect(db_client=client)
        await client.postgrest.session.aclose()
