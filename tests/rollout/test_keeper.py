"""State in a process: read in the background, given up when old, with one warning."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from llm_common import Rollout
from llm_common.database import connect
from llm_common.database.base import Database
from llm_common.errors import ConfigurationError, DatabaseUnavailableError, InvalidInputError
from llm_common.rollout import keeper
from llm_common.rollout.commands import change, wanted
from tests import children
from tests.rollout.conftest import FLAG, broken, new, old
from tests.servers import execute, fetch


class Flaky:
    """A database that can go away."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.is_away = False
        self.calls: list[str] = []

    @property
    def identity(self) -> str:
        return self._db.identity

    async def call(self, function, payload):
        self.calls.append(function)
        if self.is_away:
            raise DatabaseUnavailableError("it is away")
        return await self._db.call(function, payload)

    async def aclose(self) -> None:
        await self._db.aclose()


def nothing_was_read_for_long(rollout: Rollout) -> None:
    """Make the state old, once it is sure that no poll renews it."""
    rollout._keeper._read_at -= keeper.LEAST_STALE_S


async def test_a_database_that_is_away_means_old_one_warning_and_recovery(db, caplog):
    caplog.set_level(logging.INFO, "llm_common")
    flaky = Flaky(db)
    async with Rollout(FLAG, flaky) as rollout:
        await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
        await children.until(lambda: rollout.arm("u") == "new")
        flaky.is_away = True
        await children.until(lambda: "rollout.state_unread" in caplog.text)
        assert rollout.arm("u") == "new", "what was read a moment ago still counts"
        nothing_was_read_for_long(rollout)
        assert (rollout.arm("u"), rollout.force.reason) == ("old", "stale")
        flaky.calls.clear()
        for _ in range(20):
            assert await rollout.run("u", old=old, new=new) == "old"
        await children.until(lambda: flaky.calls.count("llm_rollout_read") >= 5)
        flaky.is_away = False
        await children.until(lambda: rollout.arm("u") == "new")
        assert caplog.text.count("rollout.state_unread") == 1
        assert caplog.text.count("rollout.stale") == 1
        assert caplog.text.count("rollout.state_read_again") == 1
        await rollout._recorder.flush()
        (stored,) = (await db.call("llm_rollout_status", {"project": "test"}))["rollouts"]
        assert sum(arm["exposures"] for arm in stored["arms"]) == 20
        assert sum(arm["pending"] for arm in stored["arms"]) == 0


async def test_away_from_the_start(db):
    flaky = Flaky(db)
    flaky.is_away = True
    async with Rollout(FLAG, flaky) as rollout:
        assert await rollout.run("u", old=old, new=new) == "old"
        assert rollout.force.reason == "no_state"
        flaky.is_away = False
        await children.until(lambda: rollout.force.reason == "unset")


async def test_a_state_that_is_not_understood_means_old(db, database_url, caplog):
    async with Rollout(FLAG, db) as rollout:
        await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
        await children.until(lambda: rollout.arm("u") == "new")
        execute(database_url, """UPDATE llm_rollouts SET segments = '[{"later": 1}]'""")
        await children.until(lambda: "rollout.state_unread" in caplog.text)
        nothing_was_read_for_long(rollout)
        assert rollout.arm("u") == "old"
        assert caplog.text.count("rollout.state_unread") == 1
        execute(database_url, "UPDATE llm_rollouts SET segments = '[]'")
        await children.until(lambda: rollout.arm("u") == "new")


async def test_the_first_request_waits_for_the_state(db):
    async with Rollout(FLAG, db):
        await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
    rollout = Rollout(FLAG, db)
    assert (
        await asyncio.gather(*(rollout.run("u", old=old, new=new) for _ in range(5))) == ["new"] * 5
    )
    await rollout.aclose()


async def test_a_unit_costs_no_query(db):
    flaky = Flaky(db)
    async with Rollout(FLAG, flaky) as rollout:
        flaky.calls.clear()
        for i in range(1_000):
            rollout.arm(f"unit-{i}")
        assert flaky.calls == []


async def test_a_jump_of_the_wall_clock_changes_nothing(rollout, set_to, monkeypatch, database_url):
    await set_to("on")
    a_day_ago = time.time() - 86_400
    monkeypatch.setattr(time, "time", lambda: a_day_ago)
    assert await rollout.run("u", old=old, new=new) == "new"
    monkeypatch.setattr(time, "time", lambda: a_day_ago + 3 * 86_400)
    assert await rollout.run("u", old=old, new=new) == "new"
    await rollout._recorder.flush()
    rows = fetch(
        database_url,
        "SELECT latency_ms BETWEEN 0 AND 100000, ended_at > clock_timestamp() - interval '1 hour'"
        " FROM llm_rollout_outcomes",
    )
    assert rows == [(True, True)] * 2


async def test_a_change_is_heard_of_at_once(db, database_url, monkeypatch):
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", "600")
    listens = "SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
    listens += " AND datname = current_database()"
    async with Rollout(FLAG, db) as rollout:
        await children.until(lambda: bool(fetch(database_url, listens)))
        await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
        await children.until(lambda: rollout.arm("u") == "new")


async def test_a_rollback_of_its_own_is_in_force_without_a_poll(db, monkeypatch):
    """A database that notifies nobody, as over Supabase's API."""
    async with Rollout(FLAG, db):
        await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", "600")
    async with Rollout(FLAG, Flaky(db)) as rollout:
        for number in range(5):
            assert await rollout.run(f"unit-{number}", old=old, new=broken) == "old"
        await children.until(lambda: rollout.force.reason == "rolled_back")


async def test_an_event_loop_after_the_other(database_url):
    rollout = Rollout(FLAG, database_url)

    async def once() -> str:
        try:
            return await rollout.run("u", old=old, new=new)
        finally:
            await rollout.aclose()

    for _ in range(2):
        assert await asyncio.to_thread(asyncio.run, once()) == "old"


def test_without_an_event_loop_the_old_arm_runs(database_url):
    assert Rollout(FLAG, database_url).arm("u") == "old"


async def test_without_a_database_the_environment_alone_decides(monkeypatch):
    assert Rollout(FLAG).arm("u") == "old"
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK", "true")
    async with Rollout(FLAG) as rollout:
        assert await rollout.run("u", old=old, new=new) == "new"
        monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK", "false")
        assert rollout.arm("u") == "new", "it is read at start"
    assert Rollout(FLAG).arm("u") == "old"


async def test_an_environment_that_cannot_be_read_says_so(monkeypatch, caplog, db):
    caplog.set_level(logging.WARNING, "llm_common")
    monkeypatch.setenv("USE_NEW_LLM_FRAMEWORK_PERCENTAGE", "ten")
    async with Rollout(FLAG, db) as rollout:
        assert rollout.arm("u") == rollout.arm("v") == "old"
    assert caplog.text.count("rollout.bad_environment") == 1
    assert "USE_NEW_LLM_FRAMEWORK_PERCENTAGE" in caplog.text


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_a_poll_interval_is_a_number_of_seconds(monkeypatch, text, database_url):
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", text)
    with pytest.raises(ConfigurationError, match="rollout_poll_s"):
        Rollout(FLAG, connect(database_url))


def test_a_rollout_has_a_name(database_url):
    with pytest.raises(InvalidInputError, match="needs a name"):
        Rollout(" ", database_url)
