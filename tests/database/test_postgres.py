"""The psycopg connector when things go wrong, and how it shares connections."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_common.database import connect, pool
from llm_common.database.migrations import up
from llm_common.database.postgres import PostgresDatabase
from llm_common.errors import DatabaseError, DatabaseUnavailableError, SchemaError
from tests.children import until
from tests.servers import execute, fetch

FUNCTIONS = """
    CREATE FUNCTION test_sleep(payload jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT payload FROM pg_sleep((payload ->> ''seconds'')::float)';
    CREATE FUNCTION test_pid(payload jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT to_jsonb(pg_backend_pid())';
    CREATE FUNCTION test_settings(payload jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT to_jsonb(count(*)) FROM pg_prepared_statements';
"""


@pytest.fixture
def url(database_url):
    execute(database_url, FUNCTIONS)
    return database_url


@pytest.fixture
async def database(url):
    database = connect(url)
    yield database
    await database.aclose()


def others(url: str) -> int:
    """How many connections the database has, besides the one that asks."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    return fetch(url, query)[0][0]


async def test_clients_of_one_process_share_four_connections(url):
    clients = [connect(url) for _ in range(10)]
    await asyncio.gather(*(client.call("test_sleep", {"seconds": 0.05}) for client in clients))
    # The server process of the fixture's connection, which is closed, takes a moment to go.
    await until(lambda: others(url) == pool.SIZE)
    for client in clients[:-1]:
        await client.aclose()
    assert others(url) == pool.SIZE
    await clients[-1].aclose()
    await until(lambda: others(url) == 0)


async def test_a_client_that_nobody_holds_keeps_no_connection_busy(url):
    first = connect(url)
    pid = await first.call("test_pid", {})
    del first
    second = connect(url)
    assert await second.call("test_pid", {}) == pid
    await second.aclose()
    await until(lambda: others(url) == 0)


async def test_a_closed_client_can_be_used_again(database):
    await database.aclose()
    assert await database.call("test_sleep", {"seconds": 0}) == {"seconds": 0}


async def test_connections_that_the_server_closed_are_replaced(url, database):
    await asyncio.gather(*(database.call("test_sleep", {"seconds": 0.05}) for _ in range(4)))
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    for _ in range(4):
        assert await database.call("test_sleep", {"seconds": 0}) == {"seconds": 0}


async def test_a_call_has_a_deadline_and_leaves_the_connection_usable(url):
    patient, hasty = connect(url), PostgresDatabase(url, deadline_s=0.3)
    assert await patient.call("test_sleep", {"seconds": 0}) == {"seconds": 0}
    # An hour: whoever waited for the answer would not come back.
    with pytest.raises(DatabaseUnavailableError, match=r"no answer to test_sleep within 0\.3 s"):
        await hasty.call("test_sleep", {"seconds": 3600})
    assert await patient.call("test_sleep", {"seconds": 0}) == {"seconds": 0}
    await until(lambda: others(url) <= 1)
    await hasty.aclose()
    await patient.aclose()


async def test_a_cancelled_call_gives_its_connection_back(database):
    for _ in range(pool.SIZE + 2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(database.call("test_sleep", {"seconds": 30}), 0.05)
    assert await database.call("test_sleep", {"seconds": 0}) == {"seconds": 0}


async def test_no_server_is_said_soon_and_without_the_password(tmp_path):
    database = connect(f"postgresql://anna:secret@/d?host={tmp_path}")
    # Had the deadline ended it, there would be "no answer".
    with pytest.raises(DatabaseUnavailableError, match="can't be reached") as caught:
        await database.call("llm_schema", {})
    assert "secret" not in str(caught.value)
    await database.aclose()


async def test_an_empty_database_says_to_migrate(empty_url):
    database = connect(empty_url)
    with pytest.raises(SchemaError, match="llm-common migrate up"):
        await database.call("llm_costs", {"kind": "daily"})
    await up(empty_url)
    day = {"kind": "daily", "day": "2026-01-01"}
    assert await database.call("llm_costs", day) == {"total_cost": "0", "unpriced": 0}
    await database.aclose()


async def test_a_missing_schema_says_to_migrate(database_url):
    database = PostgresDatabase(database_url, "no_such_schema")
    with pytest.raises(SchemaError, match="3F000"):
        await database.call("llm_costs", {})
    await database.aclose()


async def test_a_refused_argument_names_the_sqlstate(database):
    with pytest.raises(DatabaseError, match="llm_costs failed with SQLSTATE 22023"):
        await database.call("llm_costs", {"kind": "weekly"})


async def test_nothing_is_prepared_on_the_server(database):
    for _ in range(8):
        assert await database.call("test_settings", {}) == 0


def test_one_connector_serves_several_event_loops(url):
    database = connect(url)

    async def once():
        answer = await database.call("test_sleep", {"seconds": 0})
        await database.aclose()
        return answer

    assert [asyncio.run(once()) for _ in range(2)] == [{"seconds": 0}] * 2


async def test_a_forked_child_leaves_its_parents_connections_alone(url, database):
    pid = await database.call("test_pid", {})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _child(url, pid)
        finally:
            os._exit(status)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert await database.call("test_pid", {}) == pid


def _child(url: str, parents_connection: int) -> int:
    asyncio.events._set_running_loop(None)
    database = connect(url)

    async def ask():
        answer = await database.call("test_pid", {})
        await database.aclose()
        return answer

    return 0 if asyncio.run(ask()) != parents_connection else 2


async def test_a_server_that_is_just_starting_is_waited_for(url, tmp_path):
    real = Path(conninfo_to_dict(url)["host"]) / ".s.PGSQL.5432"
    database = connect(make_conninfo(url, host=str(tmp_path)))
    call = asyncio.create_task(database.call("test_sleep", {"seconds": 0}))
    await asyncio.sleep(0.25)
    assert not call.done()
    (tmp_path / real.name).symlink_to(real)
    assert await call == {"seconds": 0}
    await database.aclose()
