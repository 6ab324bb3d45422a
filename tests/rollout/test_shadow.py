"""The new arm in the shadow: compared, bounded, and without a trace."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from llm_common import ConversationMemory, LLMClient, Rollout
from llm_common.errors import InvalidInputError, ShadowWriteError
from llm_common.rollout import Shadow, refuse_in_shadow
from llm_common.rollout.commands import log
from llm_common.rollout.shadow import MOST_AT_ONCE
from llm_common.runs import Unit, open_run
from tests.rollout.conftest import FLAG, broken, new, old
from tests.servers import fetch


def differ(served: str, shown: str) -> dict[str, str] | None:
    return None if served == shown else {"served": served, "shown": shown}


@pytest.fixture
async def rollout(db):
    async with Rollout(FLAG, db, shadow=Shadow(compare=differ, timeout_s=120)) as started:
        yield started


async def ended(rollout, url):
    """Wait for the shadows and return what is stored of them."""
    await asyncio.gather(*rollout._background)
    await rollout._recorder.flush()
    return fetch(
        url,
        "SELECT o.status, o.error_class, o.matched FROM llm_rollout_outcomes o"
        " WHERE o.arm = 'shadow' ORDER BY o.seq",
    )


async def test_the_old_arm_serves_and_does_not_wait(rollout, set_to, database_url):
    await set_to("shadow")
    may_end = asyncio.Event()

    async def slow():
        await may_end.wait()
        return "old"

    assert await rollout.run("u", old=old, new=slow) == "old"
    assert not may_end.is_set()
    may_end.set()
    assert await ended(rollout, database_url) == [("ok", None, True)]


async def test_what_differs_is_stored_and_listed(rollout, set_to, database_url):
    await set_to("shadow")
    assert await rollout.run("u", old=old, new=new) == "old"
    assert await ended(rollout, database_url) == [("ok", None, False)]
    (mismatch,) = (await log(rollout.db, "test", FLAG)).mismatches
    assert (mismatch.unit_id, mismatch.difference) == ("u", {"served": "old", "shown": "new"})


async def test_a_failure_in_the_shadow_is_nobodys(rollout, set_to, database_url):
    await set_to("shadow")
    assert await rollout.run("u", old=old, new=broken) == "old"
    assert await ended(rollout, database_url) == [("error", "RuntimeError", None)]
    assert (await rollout.db.call("llm_rollout_read", {"project": "test", "flag": FLAG}))["state"][
        "latched"
    ] is None


async def test_a_shadow_has_a_timeout(db, set_to, rollout, database_url):
    await set_to("shadow")
    async with Rollout(FLAG, db, shadow=Shadow(timeout_s=0.05)) as quick:
        assert await quick.run("u", old=old, new=lambda: asyncio.sleep(600)) == "old"
        assert await ended(quick, database_url) == [("error", "TimeoutError", None)]


async def test_a_comparator_that_fails_says_nothing(db, set_to, rollout, database_url):
    def fail(served, shown):
        raise KeyError(served)

    await set_to("shadow")
    async with Rollout(FLAG, db, shadow=Shadow(compare=fail)) as failing:
        assert await failing.run("u", old=old, new=new) == "old"
        assert await ended(failing, database_url) == [("ok", None, None)]


async def test_no_more_than_a_few_at_once(rollout, set_to, database_url):
    await set_to("shadow")
    may_end = asyncio.Event()

    async def waiting():
        await may_end.wait()
        return "old"

    for i in range(MOST_AT_ONCE + 2):
        await rollout.run(f"unit-{i}", old=old, new=waiting)
    may_end.set()
    statuses = [row[0] for row in await ended(rollout, database_url)]
    assert sorted(statuses) == ["ok"] * MOST_AT_ONCE + ["refused"] * 2


async def test_its_calls_are_labelled_and_end_at_the_cap(
    rollout, set_to, database_url, fake, costs, ledger
):
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)

    async def ask():
        return await llm.chat([{"role": "user", "content": "hello"}])

    await set_to("shadow", shadow={"share": 10_000, "daily_usd": "0.30"})
    assert await rollout.run("u", old=old, new=ask) == "old"
    assert [row[0] for row in await ended(rollout, database_url)] == ["ok"]
    assert [row["arm"] for row in await ledger()] == ["shadow"]
    assert await llm.chat([{"role": "user", "content": "hello"}]), "others have no such limit"
    await set_to("shadow", shadow={"share": 10_000, "daily_usd": "0.0001"})
    assert await rollout.run("u", old=old, new=ask) == "old"
    assert (await ended(rollout, database_url))[1][:2] == ("refused", "BudgetExceededError")
    assert len(fake.requests) == 2


async def test_it_leaves_no_message_and_no_run(rollout, set_to, database_url):
    memory = ConversationMemory(rollout.db, user_id=str(uuid4()))
    seen: list[str] = []

    async def writes():
        unit = Unit("test", "bill", "SB-9", {"text": "a"})
        async with open_run(rollout.db, unit) as run:

            async def double(n):
                seen.append("step")
                return 2 * n

            assert await run.step("double", double, {"n": 2}) == 4
            await run.finish("completed", analysis_json={"a": 1})
        with pytest.raises(ShadowWriteError):
            refuse_in_shadow("sending a mail")
        await memory.save_message("user", "hello")

    await set_to("shadow")
    refuse_in_shadow("nothing is refused elsewhere")
    assert await rollout.run("u", old=old, new=writes) == "old"
    assert await ended(rollout, database_url) == [("error", "ShadowWriteError", None)]
    assert seen == ["step"]
    for table in ("pipeline_runs", "pipeline_steps", "conversations"):
        assert fetch(database_url, f"SELECT count(*) FROM {table}") == [(0,)]


async def test_a_part_of_the_units_is_sampled(rollout, set_to, database_url):
    await set_to("shadow", shadow={"share": 0, "daily_usd": "1"}, allow=["always"])
    for unit in ("a", "b", "always"):
        await rollout.run(unit, old=old, new=new)
    assert len(await ended(rollout, database_url)) == 1


async def test_streams_are_compared_whole(rollout, set_to, database_url):
    async def items(*texts):
        for text in texts:
            yield text

    await set_to("shadow")
    stream = rollout.stream("u", old=lambda: items("a", "b"), new=lambda: items("a", "c"))
    assert [item async for item in stream] == ["a", "b"]
    assert await ended(rollout, database_url) == [("ok", None, False)]
    (mismatch,) = (await log(rollout.db, "test", FLAG)).mismatches
    assert mismatch.difference == {"served": ["a", "b"], "shown": ["a", "c"]}


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_is_above_0(seconds):
    with pytest.raises(InvalidInputError, match="timeout_s"):
        Shadow(timeout_s=seconds)
