"""One living process is at a run; a dead one is replaced at once, a zombie is fenced off."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_common.cost_tracker import CostTracker, Intent, Outcome
from llm_common.database import Database
from llm_common.errors import DatabaseUnavailableError, FencedError, RunBusyError
from llm_common.runs import Unit, open_run
from tests import children, servers
from tests.runs.conftest import Calls, Table

UNIT = Unit("test", "demo", "AB-1", {"text": "a"})


async def test_a_run_is_busy_while_this_process_is_at_it(db: Database, table: Table) -> None:
    work = Calls()
    async with open_run(db, UNIT) as run:
        await run.step("one", work, {})
        for _ in range(2):
            with pytest.raises(RunBusyError, match="being worked on") as busy:
                async with open_run(db, UNIT):
                    pass
            assert busy.value.run_id == run.id
        await run.step("two", work, {})
    assert [r["status"] for r in table("pipeline_runs")] == ["completed"]


@pytest.mark.parametrize("number", range(5))
async def test_of_many_that_start_at_once_one_runs(db: Database, table: Table, number: int) -> None:
    work = Calls()
    refused: list[str] = []

    async def start() -> str:
        try:
            async with open_run(db, UNIT) as run:
                await run.step("one", work, {})
                await children.until(lambda: len(refused) == 7)
        except RunBusyError as busy:
            refused.append(busy.run_id)
            return busy.run_id
        return run.id

    ids = await asyncio.gather(*(start() for _ in range(8)))
    assert len(set(ids)) == 1
    assert len(work) == 1
    assert [r["fence"] for r in table("pipeline_runs")] == [1]


WORK = """
import asyncio, os
from llm_common.database import connect
from llm_common.runs import Unit, open_run

async def quick():
    return "kept"

async def slow():
    await asyncio.sleep(60)

async def main():
    db = connect(os.environ["DATABASE_URL"])
    async with open_run(db, Unit("test", "demo", "AB-1", {"text": "a"})) as run:
        await run.step("quick", quick, {})
        await run.step("slow", slow, {})

asyncio.run(main())
"""


async def test_a_run_is_busy_while_another_process_lives_and_free_once_it_is_killed(
    db: Database, database_url: str, table: Table
) -> None:
    quick, slow = Calls("other"), Calls("late")

    def is_slow() -> bool:
        return [s["step"] for s in table("pipeline_steps")] == ["quick", "slow"]

    async with children.killed(WORK, DATABASE_URL=database_url):
        await children.until(is_slow)
        with pytest.raises(RunBusyError):
            async with open_run(db, UNIT):
                pass
    async with open_run(db, UNIT) as run:
        assert await run.step("quick", quick, {}) == "kept"
        assert await run.step("slow", slow, {}) == "late"
    assert (len(quick), len(slow)) == (0, 1)
    (row,) = table("pipeline_runs")
    assert (row["status"], row["fence"]) == ("completed", 2)
    steps = [(s["step"], s["state"], s["attempt"]) for s in table("pipeline_steps")]
    assert steps == [("quick", "done", 1), ("slow", "done", 2)]


async def test_an_owner_on_another_machine_is_given_up_after_long_silence(
    db: Database, database_url: str, table: Table
) -> None:
    def of_elsewhere(silent_for: str) -> None:
        servers.execute(
            database_url,
            "UPDATE pipeline_runs SET status = 'running', owner = 'elsewhere:instance', "
            f"updated_at = now() - interval '{silent_for}'",
        )

    async with open_run(db, UNIT):
        pass
    of_elsewhere("14 minutes")
    with pytest.raises(RunBusyError):
        async with open_run(db, UNIT):
            pass
    of_elsewhere("16 minutes")
    async with open_run(db, UNIT) as run:
        await run.step("one", Calls(), {})
    assert [r["status"] for r in table("pipeline_runs")] == ["completed"]


async def test_a_zombie_can_not_write_over_its_successor_but_pays(
    db: Database, database_url: str, table: Table
) -> None:
    """A worker that is given up while it is in a call: its money counts, its words do not."""
    costs = CostTracker(db)
    in_call, go_on = asyncio.Event(), asyncio.Event()

    async def zombie_call() -> str:
        intent = Intent(str(uuid4()), 1, "first", "p", "m", 10, run_id=str(run.id))
        hold = await costs.reserve(intent)
        in_call.set()
        await go_on.wait()
        costs.settle(hold, Outcome("ok", Decimal("0.25"), "prices"))
        return "zombie"

    async def zombie() -> None:
        nonlocal run
        async with open_run(db, UNIT) as run:
            await run.step("one", zombie_call, {})

    run: Any = None
    task = asyncio.create_task(zombie())
    await in_call.wait()
    servers.execute(
        database_url, "UPDATE pipeline_runs SET fence = fence + 1, owner = 'elsewhere:x'"
    )
    go_on.set()
    with pytest.raises(FencedError, match="taken over") as fenced:
        await task
    assert fenced.value.run_id == run.id
    (row,) = table("pipeline_runs")
    assert (row["status"], row["owner"], row["error_class"]) == ("running", "elsewhere:x", None)
    (step,) = table("pipeline_steps")
    assert (step["state"], step["output"]) == ("intent", None)
    await costs.flush()
    assert [(c["run_id"], c["cost_usd"]) for c in table("cost_tracking")] == [
        (row["id"], Decimal("0.25"))
    ]


async def test_a_fenced_worker_that_fails_shows_its_own_error(
    db: Database, database_url: str, table: Table
) -> None:
    async def fail() -> None:
        servers.execute(database_url, "UPDATE pipeline_runs SET fence = fence + 1")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        async with open_run(db, UNIT) as run:
            await run.step("one", fail, {})
    assert [r["error_class"] for r in table("pipeline_runs")] == [None]


class Breaking:
    """A database that goes away when it is told to."""

    def __init__(self, db: Database) -> None:
        self.identity, self.aclose = db.identity, db.aclose
        self._db, self.away = db, False

    async def call(self, function: str, payload: Any) -> Any:
        if self.away:
            raise DatabaseUnavailableError("away")
        return await self._db.call(function, payload)


async def test_a_run_whose_end_could_not_be_written_goes_on_in_the_same_process(
    db: Database, table: Table
) -> None:
    breaking = Breaking(db)

    async def fail() -> None:
        breaking.away = True
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        async with open_run(breaking, UNIT) as run:
            await run.step("one", fail, {})
    assert [r["status"] for r in table("pipeline_runs")] == ["running"]
    breaking.away = False
    async with open_run(breaking, UNIT) as run:
        assert await run.step("one", Calls(), {}) == "done"
    assert [r["status"] for r in table("pipeline_runs")] == ["completed"]
