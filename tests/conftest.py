"""One Postgres for the whole run; a database of its own for every test."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from psycopg.rows import dict_row

from llm_common import limits, providers
from llm_common.cost_tracker import CostTracker
from llm_common.database import Database, connect, pool
from llm_common.database.migrations import up
from llm_common.search import http as search_http
from llm_common.testing import CorpusDocument, ProviderServer
from tests import postgrest, servers
from tests.postgrest import SupabaseLite
from tests.servers import Server
from tests.support import UNHURRIED, skip_or_fail

TEMPLATE = "llm_common_template"

settings.register_profile("unhurried", UNHURRIED)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch, state_dir: Path) -> None:
    """A test names its database; the machine's own, and its spool, are never touched."""
    monkeypatch.setenv("LLM_COMMON_STATE_DIR", str(state_dir))
    monkeypatch.setenv("LLM_COMMON_PROJECT", "test")
    # litellm, imported by itself, would fetch prices from the network.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    for name in ("DATABASE_URL", "SUPABASE_URL", "LLM_COMMON_SCHEMA", "LLM_COMMON_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def state_dir() -> Iterator[Path]:
    """Spools and embedded databases of this test run."""
    with tempfile.TemporaryDirectory(prefix="llm_common_state_") as folder:
        yield Path(folder).resolve()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder for an embedded server, which runs as a user of its own when we are root.

    Not in pytest's: each run of pytest on the machine closes that one to other users.
    """
    with tempfile.TemporaryDirectory(prefix="llm_common_pg_", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """An embedded server with Supabase's roles, which lasts as long as the test run."""
    with servers.embedded() as running:
        running.execute(postgrest.ROLES)
        yield running


@pytest.fixture(scope="session")
def pg15() -> Iterator[Server]:
    """A server of the oldest supported major version, without Supabase's roles."""
    programs = servers.installed_programs(15)
    if programs is None:
        skip_or_fail("PostgreSQL 15 is not installed")
    with servers.cluster(programs) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of a migrated database that nobody connects to."""
    asyncio.run(up(server.create(TEMPLATE)))
    return TEMPLATE


@pytest.fixture(scope="session")
def supabase_lite(server: Server) -> Iterator[SupabaseLite]:
    """Supabase's API in front of one migrated database, shared by the tests that ask for it."""
    url = server.create("llm_common_supabase")
    servers.execute(url, postgrest.DEFAULT_PRIVILEGES)
    asyncio.run(up(url))
    servers.execute(url, postgrest.FUNCTIONS)
    with postgrest.serve(url) as api:
        yield api


@pytest.fixture
def database_url(server: Server, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database of this test's own."""
    with server.database(template) as url:
        yield url


@pytest.fixture
def empty_url(server: Server) -> Iterator[str]:
    """The URL of a database without anything in it."""
    with server.database() as url:
        yield url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A connector to this test's own database."""
    database = connect(database_url)
    yield database
    # What was settled in the background still goes over this connection.
    await CostTracker(database).aclose()


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    """What searches can find; folders of tests have their own."""
    return ()


@pytest.fixture
async def fake(
    monkeypatch: pytest.MonkeyPatch, corpus: Sequence[CorpusDocument]
) -> AsyncIterator[ProviderServer]:
    """Every provider and engine, on loopback, with the environment pointing there."""
    async with ProviderServer(corpus) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running
        limits.forget()
        await providers.aclose()
        await search_http.close()
        # Hosts do not close every client that they make.
        await pool.close()


@pytest.fixture
def costs(db: Database) -> CostTracker:
    """A tracker without budgets on this test's own database."""
    return CostTracker(db)


@pytest.fixture
def ledger(costs: CostTracker, database_url: str) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
    """Read the ledger's rows as a host does, in the order of their attempts."""

    async def read() -> list[dict[str, Any]]:
        await costs.flush()
        async with await psycopg.AsyncConnection.connect(
            database_url, row_factory=dict_row
        ) as connection:
            cursor = await connection.execute(
                "SELECT * FROM cost_tracking ORDER BY timestamp, attempt_no"
            )
            return await cursor.fetchall()

    return read
