"""Steps are looked up before they are run, in this run and in earlier ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from llm_common.cost_tracker import CostTracker, Intent, Outcome
from llm_common.database import Database
from llm_common.errors import (
    BudgetExceededError,
    DatabaseUnavailableError,
    DuplicateStepError,
    InvalidInputError,
)
from llm_common.runs import Replay, Unit, find_completed, find_runs, open_run
from tests.runs.conftest import Calls, Table


def unit(**changes: Any) -> Unit:
    fields = {"project": "test", "pipeline": "demo", "unit_key": "AB-1", "inputs": {"text": "a"}}
    return Unit(**{**fields, **changes})


async def test_a_run_that_ends_well_is_completed_and_sends_nothing_again(
    db: Database, table: Table
) -> None:
    work = Calls({"n": 1})
    for _ in range(3):
        async with open_run(db, unit(columns={"bill_id": "AB-1", "generate_model": "m"})) as run:
            assert await run.step("one", work, {"x": 1}) == {"n": 1}
    assert work.inputs == [{"x": 1}]
    (row,) = table("pipeline_runs")
    expected = {
        "project": "test",
        "pipeline_name": "demo",
        "unit_key": "AB-1",
        "bill_id": "AB-1",
        "generate_model": "m",
        "status": "completed",
        "error_class": None,
    }
    assert {k: row[k] for k in expected} == expected
    assert row["started_at"] <= row["completed_at"]
    (step,) = table("pipeline_steps")
    assert (step["step"], step["key"], step["state"], step["output"]) == (
        "one",
        "",
        "done",
        {"n": 1},
    )
    assert step["started_at"] <= step["finished_at"]
    assert await find_completed(db, unit()) is not None
    assert await find_completed(db, unit(inputs={"text": "b"})) is None


async def test_a_step_is_looked_up_in_earlier_runs_of_the_project(
    db: Database, table: Table
) -> None:
    work = Calls()
    async with open_run(db, unit()) as run:
        await run.step("one", work, {"x": 1}, key="k")
    async with open_run(db, unit(inputs={"text": "b"})) as run:
        assert await run.step("one", work, {"x": 1}, key="k") == "done"
        assert run.executed == []
    assert len(work) == 1
    async with open_run(db, unit(project="other")) as run:
        await run.step("one", work, {"x": 1}, key="k")
    assert len(work) == 2
    assert [s["state"] for s in table("pipeline_steps")] == ["done"] * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"x": 2}},
        {"key": "other"},
        {"version": 2},
        {"prompt_hash": "changed"},
        {"name": "two"},
        {"max_age": timedelta(0)},
    ],
    ids=lambda c: next(iter(c)),
)
async def test_what_makes_a_step_run_again(db: Database, changes: dict[str, Any]) -> None:
    work = Calls()
    same: dict[str, Any] = {"name": "one", "inputs": {"x": 1}, "prompt_hash": "p"}
    for options in (same, same, {**same, **changes}):
        async with open_run(db, unit(inputs={"try": str(uuid4())})) as run:
            await run.step(fn=work, **options)
    assert len(work) == 2


async def test_a_stored_result_is_used_until_its_age(db: Database) -> None:
    work = Calls()
    for _ in range(2):
        async with open_run(db, unit(inputs={"try": str(uuid4())})) as run:
            await run.step("one", work, {}, max_age=timedelta(minutes=1))
    assert len(work) == 1


async def test_stored_json_is_returned_the_first_time_too(db: Database) -> None:
    work = Calls(
        {"pair": (1, 2), "money": Decimal("1.10"), "when": datetime(2026, 1, 2, tzinfo=UTC)}
    )
    stored = {"pair": [1, 2], "money": "1.10", "when": "2026-01-02T00:00:00+00:00"}
    for _ in range(2):
        async with open_run(db, unit(inputs={"try": str(uuid4())})) as run:
            assert await run.step("one", work, {}) == stored
    assert len(work) == 1


@pytest.mark.parametrize("text", ["nul \0 inside", "half a pair \ud800", "line\u2028and 🐘"])
async def test_text_that_the_database_can_not_hold_is_cleaned_the_first_time_too(
    db: Database, text: str
) -> None:
    work, seen = Calls({"text": text}), []
    for _ in range(2):
        async with open_run(db, unit(inputs={"try": str(uuid4())})) as run:
            seen.append(await run.step("one", work, {"text": text}))
    assert len(work) == 1
    assert seen[0] == seen[1]


async def test_outputs_over_64_kb_go_to_blobs_and_come_back(db: Database, table: Table) -> None:
    large = {"text": "x" * 70_000}
    work = Calls(large)
    for _ in range(2):
        async with open_run(db, unit(inputs={"try": str(uuid4())})) as run:
            assert await run.step("large", work, {}) == large
            assert await run.step("small", Calls({"text": "y"}), {}) == {"text": "y"}
    assert len(work) == 1
    (blob,) = table("llm_blobs")
    assert blob["content"] == large
    steps = [s for s in table("pipeline_steps") if s["step"] == "large"]
    assert [(s["output"], s["output_hash"]) for s in steps] == [(None, blob["hash"])] * 2


@pytest.mark.parametrize(
    "answer",
    [{1, 2}, {"n": float("nan")}, {1: "a"}, pytest.param(object(), id="object")],
    ids=str,
)
async def test_a_result_that_is_no_json_is_a_failed_step(
    db: Database, table: Table, answer: object
) -> None:
    with pytest.raises(InvalidInputError):
        async with open_run(db, unit()) as run:
            await run.step("one", Calls(answer), {})
    (step,) = table("pipeline_steps")
    assert (step["state"], step["error_class"]) == ("failed", "InvalidInputError")


async def test_one_key_twice_in_one_execution_is_an_error(db: Database) -> None:
    work = Calls()
    async with open_run(db, unit()) as run:
        await run.step("one", work, {}, key="k")
        await run.step("one", work, {}, key="other")
        with pytest.raises(DuplicateStepError, match="step 'one' with key 'k' twice") as caught:
            await run.step("one", work, {"x": 9}, key="k")
    assert caught.value.run_id == run.id
    assert len(work) == 2


async def test_only_the_failed_step_is_run_again(db: Database, table: Table) -> None:
    first, second = Calls("a"), Calls("b", errors=[BudgetExceededError("the budget is used up")])
    for number in range(2):
        try:
            async with open_run(db, unit()) as run:
                await run.step("first", first, {})
                await run.step("second", second, {})
        except BudgetExceededError:
            (row,) = table("pipeline_runs")
            assert number == 0
            assert (row["status"], row["error_class"]) == ("failed", "BudgetExceededError")
            assert row["error_message"] == "the budget is used up"
            states = [(s["step"], s["state"], s["attempt"]) for s in table("pipeline_steps")]
            assert states == [("first", "done", 1), ("second", "failed", 1)]
    assert (len(first), len(second)) == (1, 2)
    (row,) = table("pipeline_runs")
    assert (row["status"], row["error_class"], row["error_message"]) == ("completed", None, None)
    states = [(s["step"], s["state"], s["attempt"]) for s in table("pipeline_steps")]
    assert states == [("first", "done", 1), ("second", "done", 2)]


async def test_a_foreign_error_is_kept_by_its_class_alone(db: Database, table: Table) -> None:
    with pytest.raises(ValueError, match="sk-secret"):
        async with open_run(db, unit()) as run:
            await run.step("one", Calls(errors=[ValueError("sk-secret")]), {})
    (row,) = table("pipeline_runs")
    assert (row["error_class"], row["error_message"]) == ("ValueError", None)


async def test_a_cancelled_run_says_so_and_goes_on_later(db: Database, table: Table) -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.sleep(60)

    async def work() -> None:
        async with open_run(db, unit()) as run:
            await run.step("slow", slow, {})

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [r["status"] for r in table("pipeline_runs")] == ["cancelled"]
    assert [s["error_class"] for s in table("pipeline_steps")] == ["CancelledError"]
    async with open_run(db, unit()) as run:
        await run.step("slow", Calls(), {})
    assert [r["status"] for r in table("pipeline_runs")] == ["completed"]


async def test_the_time_is_a_recorded_step(db: Database) -> None:
    async with open_run(db, unit()) as run:
        first = await run.now()
        other = await run.now("again")
    async with open_run(db, unit(inputs={"text": "b"})) as run:
        assert (await run.now("again"), await run.now()) == (other, first)
    assert first.tzinfo is not None


async def pay_for(
    db: Database, replay: Replay | None, works: dict[str, Calls], **inputs: Any
) -> str:
    async with open_run(db, unit(inputs=inputs), replay) as run:
        for name, work in works.items():
            await run.step(name, work, inputs)
        return run.id


async def test_fresh_steps_are_paid_anew_but_not_again_after_an_interruption(db: Database) -> None:
    works = {"a": Calls("a"), "b": Calls("b"), "c": Calls("c")}
    await pay_for(db, None, works, x=1)
    fresh = Replay(fresh=frozenset({"b", "c"}))
    works["c"].errors = [BudgetExceededError("no more")]
    with pytest.raises(BudgetExceededError):
        await pay_for(db, fresh, works, x=1)
    assert [len(w) for w in works.values()] == [1, 2, 2]
    again = await pay_for(db, fresh, works, x=1)
    assert [len(w) for w in works.values()] == [1, 2, 3]
    assert again == await pay_for(db, fresh, works, x=1)
    assert [len(w) for w in works.values()] == [1, 2, 3]


async def test_a_replayed_run_lends_its_steps_whatever_their_inputs_were(db: Database) -> None:
    works = {"a": Calls("a"), "b": Calls("b")}
    first = await pay_for(db, None, {"a": works["a"]}, x=1)
    works["b"].errors = [BudgetExceededError("no more")]
    with pytest.raises(BudgetExceededError):
        await pay_for(db, Replay(first), works, x=2)
    assert [len(w) for w in works.values()] == [1, 1]
    replay = await pay_for(db, Replay(first[:8]), works, x=2)
    assert [len(w) for w in works.values()] == [1, 2], "what it lacks is paid for once"
    assert replay != first
    (row,) = await find_runs(db, "test", run_id=replay)
    assert row["options"] == {"replay_from": first, "fresh": []}


@pytest.mark.parametrize("run_id", ["no-uuid", str(UUID(int=1)), ""])
async def test_a_run_to_replay_must_be_there(db: Database, run_id: str) -> None:
    work = Calls()
    with pytest.raises(InvalidInputError, match="name one run to replay"):
        await pay_for(db, Replay(run_id), {"a": work}, x=1)
    assert len(work) == 0


async def test_a_run_needs_a_key(db: Database) -> None:
    with pytest.raises(InvalidInputError, match="key of its unit"):
        async with open_run(db, unit(unit_key="")):
            pass


async def test_runs_are_found_with_their_steps_and_costs(db: Database) -> None:
    from llm_common.cost_tracker import Intent, Outcome

    costs = CostTracker(db)

    async def pay() -> None:
        from llm_common.context import current

        now = current()
        assert (now.step, now.project) == ("one", "test")
        intent = Intent(str(uuid4()), 1, "first", "p", "m", 10, run_id=now.run_id, step=now.step)
        costs.settle(await costs.reserve(intent), Outcome("ok", Decimal("0.5"), "prices"))

    async with open_run(db, unit(job_id="job-1")) as run:
        await run.step("one", pay, {})
    await costs.flush()
    (row,) = await find_runs(db, "test", job_id="job-1")
    assert (row["id"], Decimal(row["cost_usd"]), row["attempts"], row["unpriced"]) == (
        *(run.id, Decimal("0.5")),
        *(1, 0),
    )
    assert [(s["step"], s["state"]) for s in row["steps"]] == [("one", "done")]
    assert await find_runs(db, "other", run_id=run.id) == []


async def test_the_costs_of_a_run_that_ends_are_in_the_ledger(db: Database, table: Table) -> None:
    costs = CostTracker(db, project="test")

    async def pay(x: int) -> int:
        intent = Intent(str(uuid4()), 1, "first", "openai", "m", 10_000_000, run_id=run.id)
        costs.settle(await costs.reserve(intent), Outcome("ok", Decimal("0.002"), "prices", "v1"))
        return x

    async with open_run(db, unit()) as run:
        await run.step("one", pay, {"x": 1})
    (row,) = table("cost_tracking")
    assert (str(row["run_id"]), row["status"], row["cost_usd"]) == (run.id, "ok", Decimal("0.002"))


async def test_costs_that_can_not_be_brought_do_not_fail_the_run(
    db: Database, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf:
        identity, aclose = db.identity, db.aclose
        hears = False

        async def call(self, function: str, payload: Any) -> Any:
            if function == "llm_settle" and not self.hears:
                raise DatabaseUnavailableError("away")
            return await db.call(function, payload)

    deaf = Deaf()
    costs = CostTracker(deaf, project="test")
    hold = await costs.reserve(Intent(str(uuid4()), 1, "first", "openai", "m", 10_000_000))
    async with open_run(deaf, unit()):
        costs.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1"))
    assert table("pipeline_runs")[0]["status"] == "completed"
    assert table("cost_tracking") == []
    assert "ledger.flush_failed error=DatabaseUnavailableError" in caplog.text
    deaf.hears = True
    assert await costs.get_daily_cost() == Decimal("0.002")
