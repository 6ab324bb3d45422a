"""Two migrators on one database, one of them killed: the other finishes, and nothing is half."""

from __future__ import annotations

import asyncio
import random
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llm_common.database.migrations import down, read, status, up, verify
from tests import children
from tests.cli.command import Command
from tests.servers import Server, execute, fetch

UP = ("migrate", "up")
DOWN = ("migrate", "down", "--all", "--yes")
MOMENTS = """
    CREATE SCHEMA moments;
    CREATE SEQUENCE moments.passed;
    CREATE TABLE moments.chosen (number bigint);
    CREATE FUNCTION moments.pass() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
        IF nextval('moments.passed') = (SELECT number FROM moments.chosen) THEN
            WHILE EXISTS (SELECT FROM moments.chosen) LOOP
                PERFORM pg_sleep(0.1);
            END LOOP;
        END IF;
    END$$;
    CREATE EVENT TRIGGER moments ON ddl_command_end EXECUTE FUNCTION moments.pass();
"""
"""Counts DDL commands, over all processes, and makes the chosen one last until `GO_ON`."""
GO_ON = "DELETE FROM moments.chosen"
"""What the server does for a client that is gone goes on until it notices."""
NO_MOMENTS = "DROP EVENT TRIGGER moments; DROP SCHEMA moments CASCADE"
PAUSED = """
    SELECT application_name FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'PgSleep'
"""
COMMITTED = "SELECT count(*) FROM llm_migrations"
HAS_HISTORY = "SELECT to_regclass('llm_migrations') IS NOT NULL"
HOLDERS = """
    SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
"""


@pytest.fixture(scope="module")
def dumps(server: Server) -> dict[tuple[str, ...], str]:
    """What a database looks like once a command was done on it undisturbed."""
    with server.database() as url:
        empty = server.dump(url)
        asyncio.run(up(url))
        return {UP: server.dump(url), DOWN: empty}


@pytest.fixture(scope="module")
def lasts(server: Server) -> dict[tuple[str, ...], int]:
    """How many DDL commands there are on the way up, and on the way down."""

    def passed(url: str) -> int:
        return fetch(url, "SELECT last_value FROM moments.passed")[0][0]

    with server.database() as url:
        execute(url, MOMENTS)
        asyncio.run(up(url))
        way_up = passed(url)
        asyncio.run(down(url, to="all"))
        return {UP: way_up, DOWN: passed(url) - way_up}


class Migrators:
    """Runs the command in processes that the server can tell apart."""

    def __init__(self, url: str, state: Path) -> None:
        self._environment = {"DATABASE_URL": url, "LLM_COMMON_STATE_DIR": str(state)}
        self.running: dict[str, Process] = {}

    async def start(self, name: str, command: tuple[str, ...]) -> Process:
        migrator = Command({**self._environment, "PGAPPNAME": name})
        self.running[name] = await migrator.start(*command)
        return self.running[name]


@pytest.fixture
async def migrators(empty_url: str, tmp_path: Path) -> AsyncIterator[Migrators]:
    made = Migrators(empty_url, tmp_path)
    yield made
    for process in made.running.values():
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def named(url: str, query: str, names: set[str]) -> str:
    """Wait until the server knows one of these processes by a query, and return its name."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [name for (name,) in fetch(url, query) if name in names]
        return bool(found)

    await children.until(is_there)
    return found[0]


@asynccontextmanager
async def stopped_at(url: str, number: int) -> AsyncIterator[None]:
    """Make one DDL command of the next migrator last."""
    execute(url, MOMENTS)
    execute(url, f"INSERT INTO moments.chosen VALUES ({number})")
    yield
    execute(url, NO_MOMENTS)


async def is_whole(server: Server, url: str, command: tuple[str, ...], dump: str) -> None:
    """Check that a database is as a command leaves it, and that nobody keeps anything of it."""
    assert server.dump(url) == dump
    expected = "applied" if command == UP else "pending"
    assert {row.state for row in await status(url)} == {expected}
    if command == UP:
        assert await verify(url) == []
    assert fetch(url, HOLDERS) == []
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert fetch(url, query) == [(0,)]


@pytest.mark.parametrize(
    ("first", "last", "seed"),
    [(UP, DOWN, 0), (UP, DOWN, 1), (DOWN, UP, 0), (DOWN, UP, 1), (DOWN, DOWN, 0)],
    ids=lambda value: value if isinstance(value, int) else value[1],
)
async def test_the_other_finishes_when_the_holder_of_the_lock_is_killed(
    server: Server, empty_url: str, migrators: Migrators, dumps, lasts, first, last, seed: int
) -> None:
    if first == DOWN:
        await up(empty_url)
    number = random.Random(f"{seed} {first} {last}").randint(1, lasts[first])
    async with stopped_at(empty_url, number):
        victim = await migrators.start("victim", first)
        assert await named(empty_url, PAUSED, {"victim"})
        other = await migrators.start("other", last)
        victim.kill()
        await victim.communicate()
        execute(empty_url, GO_ON)
        await children.output(other)
    assert victim.returncode == -signal.SIGKILL
    await is_whole(server, empty_url, last, dumps[last])


@pytest.mark.parametrize("seed", range(3))
async def test_whichever_of_two_takes_the_lock_is_killed(
    server: Server, empty_url: str, migrators: Migrators, dumps, lasts, seed: int
) -> None:
    number = random.Random(seed).randint(1, lasts[UP])
    async with stopped_at(empty_url, number):
        names = {"one", "two"}
        await asyncio.gather(*(migrators.start(name, UP) for name in sorted(names)))
        holder = await named(empty_url, PAUSED, names)
        assert fetch(empty_url, HOLDERS) == [(holder,)]
        done = fetch(empty_url, COMMITTED)[0][0] if fetch(empty_url, HAS_HISTORY)[0][0] else 0
        migrators.running[holder].kill()
        await migrators.running[holder].wait()
        execute(empty_url, GO_ON)
        (survivor,) = names - {holder}
        out = await children.output(migrators.running[survivor])
    # What the killed one had committed is not done again, and the file that it was in is.
    assert out.count("applied ") == len(read()) - done
    await is_whole(server, empty_url, UP, dumps[UP])


@pytest.mark.parametrize("seed", range(2))
async def test_up_and_down_race_and_one_comes_after_the_other(
    server: Server, empty_url: str, migrators: Migrators, dumps, seed: int
) -> None:
    chance = random.Random(seed)
    await up(empty_url, migrations=read()[: chance.randint(1, len(read()) - 1)])
    order = chance.sample([("up", UP), ("down", DOWN)], 2)
    for name, command in order:
        await migrators.start(name, command)
        await asyncio.sleep(chance.uniform(0, 0.1))
    for process in migrators.running.values():
        await children.output(process)
    last = UP if fetch(empty_url, HAS_HISTORY)[0][0] else DOWN
    await is_whole(server, empty_url, last, dumps[last])
