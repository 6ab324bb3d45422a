"""Jobs of many units: each ends in a named outcome, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.errors import (
    InvalidInputError,
    JobStateError,
    ProviderUnavailableError,
    RateLimitedError,
)
from llm_common.runs import (
    CommitHook,
    Ended,
    NewJob,
    NewUnit,
    Outcome,
    Pipeline,
    Retries,
    UnitRun,
    control,
    create_job,
    find_job,
    find_jobs,
    progress,
    rerun,
    retry,
    units_of,
    work,
)
from llm_common.testing import ProviderServer
from tests.children import until
from tests.servers import fetch

PROJECT = "batches"
AT_ONCE = Retries(times=2, delay_s=0.01)


class Host:
    """A pipeline of two steps that counts what it really does, and fails as it is told."""

    def __init__(self, retries: Retries = AT_ONCE, version: int = 1) -> None:
        self.calls: Counter[str] = Counter()
        self.errors: dict[str, list[Exception]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.pause_s = 0.0
        self.under_way = 0
        self.most = 0
        self.step_retries: Retries | None = None
        self.step_version = 1
        self.max_age: timedelta | None = None
        self.pipeline = Pipeline(
            "double", self.unit, version, retries, steps={"double": "1", "name": "1"}
        )

    async def double(self, x: int, who: str) -> dict[str, int]:
        self.calls[f"double {who}"] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
            await asyncio.sleep(self.pause_s)
        finally:
            self.under_way -= 1
        if self.errors.get(who):
            raise self.errors[who].pop(0)
        return {"x": 2 * x}

    async def name(self, x: int) -> str:
        self.calls["name"] += 1
        return f"number {x}"

    async def unit(self, run: UnitRun, given: Mapping[str, Any]) -> Any:
        doubled = await run.step(
            "double",
            self.double,
            {"x": given["x"], "who": run.unit_key},
            version=self.step_version,
            retries=self.step_retries,
            max_age=self.max_age,
        )
        return {"said": await run.step("name", self.name, {"x": doubled["x"]})}


def numbers(count: int) -> list[NewUnit]:
    return [NewUnit(f"u{n}", {"x": n}) for n in range(count)]


async def make(db: Any, units: Sequence[NewUnit], **job: Any) -> str:
    made, is_new = await create_job(db, PROJECT, NewJob("double", **job), units)
    assert is_new
    return made.job_id


async def rows(db: Any, job_id: str, **which: Any) -> dict[str, dict[str, Any]]:
    return {u["unit_key"]: u async for u in units_of(db, PROJECT, job_id, **which)}


async def test_every_unit_ends_with_its_result(db: Any) -> None:
    host = Host()
    job_id = await make(db, numbers(120))
    done = await work(db, PROJECT, job_id, host.pipeline, slots=20)
    assert (done.status, done.done, done.percent) == ("completed", 120, 100.0)
    assert done.counts["completed"] == 120
    assert done.outcomes == {"done": 120}
    assert host.most <= 20
    found = await rows(db, job_id, page=50)
    assert list(found) == [f"u{n}" for n in range(120)]
    assert [u["output"] for u in found.values()] == [
        {"said": f"number {2 * n}"} for n in range(120)
    ]
    assert {u["tries"] for u in found.values()} == {1}
    assert set(host.calls.values()) == {1, 120}


async def test_a_second_job_finds_what_the_first_has_done(db: Any) -> None:
    host = Host()
    await work(db, PROJECT, await make(db, numbers(10)), host.pipeline)
    before = host.calls.copy()
    again = await make(db, numbers(12))
    done = await work(db, PROJECT, again, host.pipeline)
    assert done.counts["completed"] == 12
    assert host.calls - before == Counter({"double u10": 1, "double u11": 1, "name": 2})


async def test_results_that_are_too_old_are_not_taken(db: Any, database_url: str) -> None:
    host = Host()
    host.max_age = timedelta(hours=1)
    await work(db, PROJECT, await make(db, numbers(2)), host.pipeline)
    fetch(
        database_url,
        "UPDATE pipeline_steps SET finished_at = finished_at - interval '2 hours' "
        "WHERE step = 'double' RETURNING 1",
    )
    await work(db, PROJECT, await make(db, numbers(2)), host.pipeline)
    assert host.calls == Counter({"double u0": 2, "double u1": 2, "name": 2})


async def test_failures_are_named_and_retry_empties_the_list(db: Any) -> None:
    host = Host()
    host.errors = {
        "u1": [InvalidInputError("no number")],
        "u2": [ProviderUnavailableError("503")] * 9,
        "u3": [ProviderUnavailableError("503")],
        "u4": [ZeroDivisionError("secret")],
    }
    job_id = await make(db, numbers(6))
    done = await work(db, PROJECT, job_id, host.pipeline)
    assert done.status == "completed"
    failed = await rows(db, job_id, statuses=["failed"])
    named = {k: (u["outcome"], u["fault"], u["error_class"]) for k, u in failed.items()}
    assert named == {
        "u1": ("invalid_input", "input", "InvalidInputError"),
        "u2": ("provider_unavailable", "provider", "ProviderUnavailableError"),
        "u4": ("error", "ours", "ZeroDivisionError"),
    }
    assert {k: u["tries"] for k, u in failed.items()} == {"u1": 1, "u2": 3, "u4": 1}
    assert failed["u1"]["error_message"] == "no number"
    # A message that is not ours may hold anything.
    assert failed["u4"]["error_message"] is None
    assert (await rows(db, job_id))["u3"]["tries"] == 2

    host.errors.clear()
    assert await retry(db, PROJECT, job_id, ["provider_unavailable"]) == 1
    assert (await find_job(db, PROJECT, job_id)).status == "running"
    assert (await work(db, PROJECT, job_id, host.pipeline)).counts["failed"] == 2
    assert await retry(db, PROJECT, job_id) == 2
    done = await work(db, PROJECT, job_id, host.pipeline)
    assert done.outcomes == {"done": 6}
    assert await rows(db, job_id, statuses=["failed"]) == {}
    assert await retry(db, PROJECT, job_id) == 0


async def test_a_job_without_one_success_has_failed(db: Any) -> None:
    host = Host()
    host.errors = {f"u{n}": [InvalidInputError("no")] for n in range(2)}
    job_id = await make(db, numbers(2))
    assert (await work(db, PROJECT, job_id, host.pipeline)).status == "failed"


async def test_steps_are_tried_again_by_the_type_of_their_error(db: Any) -> None:
    host = Host(Retries())
    host.step_retries = Retries(
        times=1, delay_s=0.01, by_error={RateLimitedError: 3, ZeroDivisionError: 1}
    )
    host.errors = {
        "u0": [ProviderUnavailableError("503")],
        "u1": [ProviderUnavailableError("503")] * 2,
        "u2": [RateLimitedError("429")] * 3,
        "u3": [ZeroDivisionError()],
        "u4": [InvalidInputError("no")],
    }
    job_id = await make(db, numbers(5))
    await work(db, PROJECT, job_id, host.pipeline)
    found = await rows(db, job_id, with_steps=True)
    assert {k: u["outcome"] for k, u in found.items()} == {
        **dict.fromkeys(("u0", "u2", "u3"), "done"),
        "u1": "provider_unavailable",
        "u4": "invalid_input",
    }
    assert [found[f"u{n}"]["steps"][0]["attempt"] for n in range(5)] == [2, 2, 4, 2, 1]
    # They were no interruptions.
    assert sum(step["repeats"] for u in found.values() for step in u["steps"]) == 0


async def test_pause_finishes_what_is_under_way_and_resume_goes_on(db: Any) -> None:
    host = Host()
    host.gate.clear()
    job_id = await make(db, numbers(20))
    working = asyncio.create_task(work(db, PROJECT, job_id, host.pipeline, slots=5))
    await until(lambda: host.under_way == 5)
    assert await control(db, PROJECT, job_id, "pause") == "paused"
    host.gate.set()
    paused = await working
    assert paused.status == "paused"
    assert paused.counts["running"] == 0
    assert 5 <= paused.counts["completed"] < 20
    # Nobody works on it now.
    assert (await work(db, PROJECT, job_id, host.pipeline)).counts == paused.counts
    assert await control(db, PROJECT, job_id, "resume") == "running"
    with pytest.raises(JobStateError, match="is running: it can't resume"):
        await control(db, PROJECT, job_id, "resume")
    assert (await work(db, PROJECT, job_id, host.pipeline)).counts["completed"] == 20
    assert max(n for k, n in host.calls.items() if k != "name") == 1


async def test_cancel_stops_what_is_under_way(db: Any) -> None:
    host = Host()
    host.gate.clear()
    job_id = await make(db, numbers(20))
    working = asyncio.create_task(work(db, PROJECT, job_id, host.pipeline, slots=5))
    await until(lambda: host.under_way == 5)
    await control(db, PROJECT, job_id, "cancel")
    # Nothing but the cancelling ends them: the gate stays closed.
    ended = await asyncio.wait_for(working, 60)
    assert ended.status == "cancelled"
    assert ended.outcomes == {"cancelled": 20}
    with pytest.raises(JobStateError, match="it can't retry"):
        await retry(db, PROJECT, job_id)
    host.gate.set()
    await control(db, PROJECT, job_id, "resume")
    assert (await work(db, PROJECT, job_id, host.pipeline)).counts["completed"] == 20


async def test_a_runner_that_is_cancelled_gives_its_units_back(db: Any) -> None:
    host = Host()
    host.gate.clear()
    job_id = await make(db, numbers(8))
    working = asyncio.create_task(work(db, PROJECT, job_id, host.pipeline, slots=5))
    await until(lambda: host.under_way == 5)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    left = await progress(db, PROJECT, job_id)
    assert (left.status, left.counts["queued"], left.counts["running"]) == ("running", 8, 0)
    assert {u["tries"] for u in (await rows(db, job_id)).values()} == {0}
    host.gate.set()
    assert (await work(db, PROJECT, job_id, host.pipeline)).counts["completed"] == 8


async def test_selected_units_run_again_from_a_fresh_step(db: Any) -> None:
    host = Host()
    job_id = await make(db, numbers(5))
    await work(db, PROJECT, job_id, host.pipeline)
    host.calls.clear()
    assert await rerun(db, PROJECT, job_id, units=["u1", "u3"], steps=["double"]) == 2
    await work(db, PROJECT, job_id, host.pipeline)
    # What follows has the same inputs, and so its answer.
    assert host.calls == Counter({"double u1": 1, "double u3": 1})
    host.calls.clear()
    await rerun(db, PROJECT, job_id, units=["u1"])
    await work(db, PROJECT, job_id, host.pipeline)
    assert host.calls == Counter()


async def test_a_fresh_step_takes_no_other_job_s_result(db: Any) -> None:
    host = Host()
    await work(db, PROJECT, await make(db, numbers(1)), host.pipeline)
    job_id = await make(db, numbers(1))
    await work(db, PROJECT, job_id, host.pipeline)
    assert host.calls["double u0"] == 1
    await rerun(db, PROJECT, job_id, steps=["double"])
    await work(db, PROJECT, job_id, host.pipeline)
    assert host.calls["double u0"] == 2


async def test_a_new_version_of_a_step_makes_units_stale(db: Any) -> None:
    host = Host()
    job_id = await make(db, numbers(4))
    await work(db, PROJECT, job_id, host.pipeline)
    versions = host.pipeline.steps
    assert await rerun(db, PROJECT, job_id, stale_for=versions) == 0
    host.calls.clear()
    host.step_version = 2
    newer = Pipeline("double", host.unit, 1, AT_ONCE, {**versions, "double": "2"})
    assert await rerun(db, PROJECT, job_id, stale_for=newer.steps) == 4
    await work(db, PROJECT, job_id, newer)
    assert host.calls == Counter({f"double u{n}": 1 for n in range(4)})
    assert await rerun(db, PROJECT, job_id, stale_for=newer.steps) == 0


async def test_the_host_commits_after_every_so_many_units(db: Any, database_url: str) -> None:
    host = Host()
    told: list[Sequence[Ended]] = []

    async def commit(ended: Sequence[Ended]) -> None:
        stored = fetch_statuses([one.run_id for one in ended])
        assert set(stored) == {"completed"}
        told.append(ended)

    def fetch_statuses(ids: list[str]) -> list[str]:
        wanted = ",".join(f"'{one}'" for one in ids)
        query = f"SELECT status FROM pipeline_runs WHERE id IN ({wanted})"
        return [status for (status,) in fetch(database_url, query)]

    job_id = await make(db, numbers(25))
    await work(db, PROJECT, job_id, host.pipeline, slots=4, on_commit=CommitHook(10, commit))
    assert [len(one) for one in told] == [10, 10, 5]
    assert {one.unit_key for batch in told for one in batch} == {f"u{n}" for n in range(25)}


async def test_a_commit_that_fails_stops_the_work(db: Any) -> None:
    host = Host()

    async def commit(_: Sequence[Ended]) -> None:
        raise OSError("the disk is full")

    host.pause_s = 0.02
    job_id = await make(db, numbers(200))
    with pytest.raises(OSError, match="disk is full"):
        await work(db, PROJECT, job_id, host.pipeline, slots=2, on_commit=CommitHook(5, commit))
    left = await progress(db, PROJECT, job_id)
    assert left.counts["running"] == 0
    assert left.counts["queued"] > 0
    await work(db, PROJECT, job_id, host.pipeline)
    # Nothing that was done is done again: only what was under way when it stopped.
    assert sum(n - 1 for k, n in host.calls.items() if k != "name") <= 2


async def test_making_a_job_twice_makes_one(db: Any) -> None:
    job = NewJob("double", options={"a": 1}, idempotency_key="monday")
    first, is_new = await create_job(db, PROJECT, job, numbers(3))
    second, is_new_too = await create_job(db, PROJECT, job, numbers(3))
    assert (is_new, is_new_too) == (True, False)
    assert first.job_id == second.job_id
    assert second.total == 3
    changed = NewJob("double", options={"a": 2}, idempotency_key="monday")
    with pytest.raises(InvalidInputError, match="was made with other options"):
        await create_job(db, PROJECT, changed, numbers(3))
    with pytest.raises(InvalidInputError, match="belongs to another project"):
        await create_job(db, "other", NewJob("double", job_id=first.job_id), numbers(3))
    assert [j.job_id for j in await find_jobs(db, PROJECT)] == [first.job_id]
    assert await find_jobs(db, "other") == []


async def test_a_making_that_was_interrupted_goes_on(db: Any) -> None:
    def broken() -> Any:
        yield from numbers(700)
        raise OSError("the file is gone")

    job = NewJob("double", job_id="a-job")
    with pytest.raises(OSError, match="gone"):
        await create_job(db, PROJECT, job, broken())
    # It isn't begun before all of it is there.
    assert (await work(db, PROJECT, "a-job", Host().pipeline)).status == "pending"
    made, is_new = await create_job(db, PROJECT, job, numbers(1200))
    assert (made.total, is_new) == (1200, False)


async def test_units_with_a_problem_are_skipped_and_kept(db: Any) -> None:
    host = Host()
    bad = NewUnit("u9", {"x": None}, (Outcome.EMPTY_KEY, "key column x is empty"))
    job_id = await make(db, [*numbers(2), bad])
    done = await work(db, PROJECT, job_id, host.pipeline)
    assert (done.counts["skipped"], done.counts["completed"]) == (1, 2)
    skipped = (await rows(db, job_id))["u9"]
    assert (skipped["status"], skipped["outcome"], skipped["fault"]) == (
        "skipped",
        "empty_key",
        "input",
    )
    assert skipped["error_message"] == "key column x is empty"


async def test_a_job_has_a_budget_and_its_cost(
    db: Any, fake: ProviderServer, database_url: str
) -> None:
    costs = CostTracker(db, project=PROJECT)
    llm = LLMClient("openai", model="gpt-4o-mini", cost_tracker=costs)

    async def ask(question: str) -> str:
        return await llm.chat([{"role": "user", "content": question}], max_tokens=100)

    async def unit(run: UnitRun, given: Mapping[str, Any]) -> Any:
        return await run.step("ask", ask, {"question": given["q"]})

    pipeline = Pipeline("ask", unit)
    units = [NewUnit(f"q{n}", {"q": f"What is {n}?"}) for n in range(40)]
    small = NewJob("ask", budget_usd=Decimal("0.0001"))
    job, _ = await create_job(db, PROJECT, small, units)
    done = await work(db, PROJECT, job.job_id, pipeline, slots=10)
    assert set(done.outcomes) == {"budget_exceeded", "done"}
    assert Decimal(0) < done.cost_usd <= Decimal("0.0001")
    assert done.unpriced == 0
    spent = fetch(database_url, "SELECT sum(cost_usd), count(DISTINCT run_id) FROM cost_tracking")
    assert spent == [(done.cost_usd, done.outcomes["done"])]
    found = await rows(db, job.job_id)
    assert sum(Decimal(u["cost_usd"]) for u in found.values()) == done.cost_usd
    await costs.aclose()


async def test_other_code_leaves_a_job_alone(db: Any) -> None:
    job_id = await make(db, numbers(1), version=2)
    with pytest.raises(JobStateError, match=r"is for double 2, this is double 1"):
        await work(db, PROJECT, job_id, Host().pipeline)
    assert (await work(db, PROJECT, job_id, Host(version=3).pipeline)).status == "completed"


@pytest.mark.parametrize("job_id", ["", "nothing", "'; DROP TABLE pipeline_jobs; --"])
async def test_a_job_that_is_not_ours(db: Any, job_id: str) -> None:
    for asked in (
        find_job(db, PROJECT, job_id),
        progress(db, PROJECT, job_id),
        control(db, PROJECT, job_id, "pause"),
        retry(db, PROJECT, job_id),
        work(db, PROJECT, job_id, Host().pipeline),
    ):
        with pytest.raises(InvalidInputError, match="has no job"):
            await asked


async def test_what_comes_late_changes_nothing(db: Any, database_url: str) -> None:
    job_id = await make(db, numbers(1))
    where = {"job_id": job_id, "project": PROJECT}
    await db.call("llm_job_begin", where)
    claim = {**where, "claim_id": str(uuid4()), "limit": 1, "again": False}
    (unit,) = (await db.call("llm_units_claim", {**claim, "owner": "old"}))["units"]
    named = {"run_id": unit["run_id"], "fence": unit["fence"], "step": "double", "key": ""}
    begin = {"input_hash": "h", "version": 1, "model": None, "max_age_s": None, "fresh": False}

    async def write(kind: str, item: dict[str, Any]) -> list[Any]:
        kinds: dict[str, Any] = {"finishes": [], "begins": [], "ends": [], kind: [{"n": 0, **item}]}
        return (await db.call("llm_units_write", {"owner": "old", **kinds}))["answers"]

    assert await write("begins", {**named, **begin}) == [{"n": 0, "found": False}]
    lost = {"owners": ["old"], "units": [], "most": 5}
    assert (await db.call("llm_units_reap", {**where, **lost}))["requeued"] == 1
    (again,) = (
        await db.call("llm_units_claim", {**claim, "owner": "new", "claim_id": str(uuid4())})
    )["units"]
    assert again["fence"] > unit["fence"]
    # The old owner has been given up: whatever it still writes is refused.
    done = {"state": "done", "output": {"late": True}, "output_hash": None}
    assert await write("finishes", {**named, **done}) == []
    assert await write("begins", {**named, **begin, "step": "name"}) == []
    end = {"status": "completed", "outcome": "done", "fault": "none", "output": {"late": True}}
    assert await write("ends", {**named, **end}) == []
    assert fetch(database_url, "SELECT step, state, output FROM pipeline_steps") == [
        ("double", "intent", None)
    ]
    assert fetch(database_url, "SELECT status, output FROM pipeline_runs") == [("queued", None)]
