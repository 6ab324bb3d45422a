"""The Supabase connector when things go wrong."""

from __future__ import annotations

import httpx
import pytest
from supabase import acreate_client, create_client

from llm_common.database import connect
from llm_common.database.connect import shared_client
from llm_common.database.supabase import SupabaseDatabase
from llm_common.errors import DatabaseError, DatabaseUnavailableError, SchemaError
from tests.servers import fetch


@pytest.fixture(params=["sync", "async"])
async def client_of(request):
    """Make a client and close it afterwards."""
    made = []

    async def make(url: str, key: str):
        client = (
            create_client(url, key) if request.param == "sync" else await acreate_client(url, key)
        )
        made.append(client)
        return client

    yield make
    for client in made:
        session = client.postgrest.session
        session.close() if isinstance(session, httpx.Client) else await session.aclose()


async def test_no_api_is_said_so_and_holds_no_key(client_of):
    database = connect(await client_of("http://127.0.0.1:9", "sb_secret_x"))
    with pytest.raises(DatabaseUnavailableError, match="can't be reached") as caught:
        await database.call("llm_costs", {})
    assert "sb_secret" not in str(caught.value)


async def test_a_client_that_the_host_has_closed_is_said_so(client_of, supabase_lite):
    client = await client_of(supabase_lite.url, supabase_lite.secret_key)
    database = connect(client)
    await database.call("llm_schema", {})
    session = client.postgrest.session
    session.close() if isinstance(session, httpx.Client) else await session.aclose()
    with pytest.raises(DatabaseUnavailableError, match="its client was closed"):
        await database.call("llm_schema", {})


async def test_a_browsers_key_may_call_nothing(client_of, supabase_lite):
    database = connect(await client_of(supabase_lite.url, supabase_lite.publishable_key))
    with pytest.raises(DatabaseError, match="42501") as caught:
        await database.call("llm_schema", {})
    assert type(caught.value) is DatabaseError


async def test_a_call_has_a_deadline(client_of, supabase_lite):
    client = await client_of(supabase_lite.url, supabase_lite.secret_key)
    await SupabaseDatabase(client).call("llm_schema", {})
    url = supabase_lite.database_url
    ((before,),) = fetch(url, "SELECT clock_timestamp()")
    with pytest.raises(DatabaseUnavailableError, match=r"no answer to test_sleep within 0\.5 s"):
        await SupabaseDatabase(client, deadline_s=0.5).call("test_sleep", {"seconds": 6})
    asleep = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND wait_event = 'PgSleep' AND query_start > '{before}'"
    )
    assert fetch(url, asleep) == [(1,)], "the answer was waited for"


async def test_a_schema_that_is_not_exposed_is_named(client_of, supabase_lite):
    client = await client_of(supabase_lite.url, supabase_lite.secret_key)
    database = SupabaseDatabase(client, "tenant")
    assert database.identity.endswith(" tenant")
    with pytest.raises(SchemaError, match="llm_schema"):
        await database.call("llm_schema", {})


async def test_the_environments_client_works(supabase_lite, monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", supabase_lite.url)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", supabase_lite.secret_key)
    database = connect()
    day = {"kind": "daily", "day": "2001-01-01"}
    assert await database.call("llm_costs", day) == {"total_cost": "0", "unpriced": 0}
    assert connect()._client is database._client
    database._client.postgrest.session.close()
    shared_client.cache_clear()
