"""What a host sees of a rollout: which arm serves, what is recorded, what a failure does."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal

import pytest

from llm_common.context import current
from llm_common.errors import BudgetExceededError, RunBusyError
from llm_common.rollout.commands import standings
from llm_common.runs import Unit, open_run
from tests.rollout.conftest import FLAG, broken, new, old
from tests.servers import fetch


async def arms(rollout, n=200, **run):
    return [await rollout.run(f"unit-{i}", **({"old": old, "new": new} | run)) for i in range(n)]


async def test_a_new_flag_runs_the_old_arm(rollout):
    assert set(await arms(rollout, 20)) == {"old"}
    assert rollout.force.reason == "unset"
    (standing,) = await standings(rollout.db, "test")
    assert (standing.state.flag, standing.state.mode) == (FLAG, None)


async def test_modes(rollout, set_to):
    await set_to("on")
    assert set(await arms(rollout, 20)) == {"new"}
    await set_to("25")
    first = await arms(rollout)
    assert 20 < first.count("new") < 80
    assert await arms(rollout) == first
    await set_to("50")
    wider = await arms(rollout)
    assert all(b == "new" for a, b in zip(first, wider, strict=True) if a == "new")
    await set_to("off")
    assert set(await arms(rollout, 20)) == {"old"}


async def test_lists_and_segments(rollout, set_to):
    california = {"attribute": "jurisdiction", "values": ["California"], "share": 10_000}
    await set_to("0", allow=["unit-1"], deny=["unit-2"], segments=[california])
    here = {"jurisdiction": "California"}
    assert rollout.arm("unit-1") == "new"
    assert rollout.arm("unit-3") == "old"
    assert rollout.arm("unit-3", here) == "new"
    assert rollout.arm("unit-3", {"jurisdiction": "Nevada"}) == "old"
    assert rollout.arm("unit-2", here) == "old"
    await set_to("on")
    assert rollout.arm("unit-2") == "old"


async def test_exposures_and_outcomes_are_stored(rollout, set_to, database_url):
    await set_to("50")
    await arms(rollout, 40)
    await rollout._recorder.flush()
    rows = fetch(
        database_url,
        "SELECT e.arm, e.reason, e.share, e.counted, o.status, count(*)"
        " FROM llm_rollout_exposures e JOIN llm_rollout_outcomes o ON o.exposure_id = e.id"
        " GROUP BY 1, 2, 3, 4, 5 ORDER BY 1",
    )
    assert [row[:5] for row in rows] == [
        ("new", "hash", 5000, True, "ok"),
        ("old", "hash", 5000, True, "ok"),
    ]
    assert sum(row[5] for row in rows) == 40


async def test_when_the_new_arm_fails_the_old_one_serves(rollout, set_to, database_url, caplog):
    await set_to("on")
    caplog.set_level(logging.WARNING, "llm_common")
    assert await rollout.run("unit-1", old=old, new=broken) == "old"
    assert "rollout.fell_back" in caplog.text
    assert "the new code is broken" not in caplog.text
    await rollout._recorder.flush()
    rows = fetch(
        database_url,
        "SELECT e.arm, e.reason, e.counted, o.status, o.error_class FROM llm_rollout_exposures e"
        " JOIN llm_rollout_outcomes o ON o.exposure_id = e.id ORDER BY e.seq",
    )
    assert rows == [
        ("new", "on", True, "error", "RuntimeError"),
        ("old", "fell_back", False, "ok", None),
    ]


async def test_a_budget_and_a_cancellation_pass_through(rollout, set_to, database_url):
    await set_to("on")

    async def refused():
        raise BudgetExceededError("too dear")

    with pytest.raises(BudgetExceededError):
        await rollout.run("unit-1", old=old, new=refused)
    begun = asyncio.Event()

    async def long():
        begun.set()
        await asyncio.sleep(600)

    task = asyncio.create_task(rollout.run("unit-2", old=old, new=long))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await rollout._recorder.flush()
    rows = fetch(database_url, "SELECT arm, status FROM llm_rollout_outcomes ORDER BY seq")
    assert rows == [("new", "refused"), ("new", "cancelled")]


async def test_a_unit_that_is_being_worked_on_is_no_failure(rollout, set_to, database_url):
    await set_to("on")

    async def busy():
        raise RunBusyError("another process is at it")

    for _ in range(6):
        assert await rollout.run("unit-1", old=old, new=busy) == "old"
    await rollout._recorder.flush()
    rows = fetch(database_url, "SELECT status FROM llm_rollout_outcomes WHERE arm = 'new'")
    assert rows == [("refused",)] * 6
    await rollout._keeper.refresh()
    assert rollout.force.reason == "on"


async def test_the_arm_is_a_label(rollout, set_to):
    async def label():
        return current().arm

    await set_to("on")
    assert await rollout.run("unit-1", old=label, new=label) == "new"
    await set_to("off")
    assert await rollout.run("unit-1", old=label, new=label) == "old"
    assert current().arm is None


async def test_an_old_arm_leaves_a_run_and_its_cost(rollout, set_to, database_url, costs):
    await set_to("off")
    about = {"bill_id": "SB-9", "jurisdiction": "California"}
    await rollout.run("SB-9", old=old, new=new, columns=about, old_cost=lambda _: Decimal("0.02"))
    with pytest.raises(RuntimeError):
        await rollout.run("SB-9", old=broken, new=new, columns=about)
    await rollout._recorder.flush()
    await costs.flush()
    rows = fetch(
        database_url,
        "SELECT r.status, r.bill_id, r.jurisdiction, r.research_model, c.cost_usd, c.kind, c.arm"
        " FROM pipeline_runs r LEFT JOIN cost_tracking c ON c.run_id = r.id ORDER BY r.started_at",
    )
    assert rows == [
        ("completed", "SB-9", "California", None, Decimal("0.02"), "external", "old"),
        ("failed", "SB-9", "California", None, None, None, None),
    ]


async def test_the_new_arms_run_is_noted_with_its_outcome(rollout, set_to, db, database_url):
    async def analyse():
        async with open_run(db, Unit("test", "bill", "SB-9", {"text": "a"})) as run:
            await run.finish("completed")
        return run.id

    await set_to("on")
    run_id = await rollout.run("SB-9", old=old, new=analyse)
    await rollout._recorder.flush()
    assert fetch(database_url, "SELECT run_id::text FROM llm_rollout_outcomes") == [(run_id,)]


async def test_without_a_unit_the_old_arm_runs(rollout, set_to, caplog):
    await set_to("on")
    caplog.set_level(logging.WARNING, "llm_common")
    for unit in (None, "", 1.5, True, None):
        assert await rollout.run(unit, old=old, new=new) == "old"
    assert caplog.text.count("rollout.no_unit") == 1


async def test_five_failures_in_a_row_roll_back(rollout, set_to):
    await set_to("on")
    for i in range(5):
        assert await rollout.run(f"unit-{i}", old=old, new=broken) == "old"
    await rollout._recorder.flush()
    await rollout._keeper.refresh()
    assert rollout.force.reason == "rolled_back"
    assert rollout.arm("unit-1") == "old"
