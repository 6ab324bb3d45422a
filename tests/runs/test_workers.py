"""Workers over one Postgres: tickets bring them to jobs, and no job is stranded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from llm_common.errors import InvalidInputError
from llm_common.runs import (
    NewJob,
    NewUnit,
    Pipeline,
    UnitRun,
    control,
    create_job,
    find_job,
    progress,
    retry,
    units_of,
    work,
)
from llm_common.runs.liveness import BEAT_S
from llm_common.runs.runner import GRACE_S
from llm_common.runs.tickets import LONGEST_QUEUE, Tickets, open_tickets, queue_of, queues_of
from llm_common.runs.workers import Slots, enqueue, is_turn_over, serve, submit
from tests.children import until

PROJECT = "workers"


class Host:
    """A pipeline of one step that counts, and waits as it is told."""

    def __init__(self, name: str = "count", version: int = 1) -> None:
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0
        self.pause_s = 0.0
        self.fails = False
        self.pipeline = Pipeline(name, self.unit, version)

    async def one(self, x: int) -> int:
        self.under_way += 1
        await self.gate.wait()
        await asyncio.sleep(self.pause_s)
        self.under_way -= 1
        if self.fails:
            raise InvalidInputError("no")
        return x + 1

    async def unit(self, run: UnitRun, given: Mapping[str, Any]) -> Any:
        answer = await run.step("one", self.one, {"x": given["x"]})
        self.done.append(run.unit_key)
        return answer


def numbers(count: int) -> list[NewUnit]:
    return [NewUnit(f"u{n}", {"x": n}) for n in range(count)]


@asynccontextmanager
async def serving(url: str, *hosts: Host, **more: Any) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    pipelines = [host.pipeline for host in hosts]
    worker = asyncio.create_task(serve(url, PROJECT, pipelines, stop=stop, **more))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(worker, 60)


async def execute(tickets: Tickets, statement: str) -> None:
    async with tickets.app.connector.pool.connection() as connection:  # type: ignore[attr-defined]
        await connection.execute(statement)


async def over(db: Any, job_id: str) -> bool:
    return (await progress(db, PROJECT, job_id)).is_over


async def test_a_worker_does_what_is_submitted_while_it_waits(db: Any, database_url: str) -> None:
    host = Host()
    async with serving(database_url, host):
        await asyncio.sleep(0.5)
        job, is_new = await submit(database_url, PROJECT, NewJob("count"), numbers(30))
        assert (is_new, job.status) == (True, "running")
        await until(lambda: over(db, job.job_id))
    done = await progress(db, PROJECT, job.job_id)
    assert (done.status, done.outcomes) == ("completed", {"done": 30})
    assert sorted(host.done) == sorted(f"u{n}" for n in range(30))


async def test_once_does_what_is_there_and_returns(db: Any, database_url: str) -> None:
    first, second = Host("first"), Host("second")
    ids = [
        (await submit(database_url, PROJECT, NewJob(name), numbers(5)))[0].job_id
        for name in ("first", "second", "first")
    ]
    hosts = [first.pipeline, second.pipeline]
    await serve(database_url, PROJECT, hosts, once=True, slots=Slots(2, 0))
    assert [(await find_job(db, PROJECT, one)).status for one in ids] == ["completed"] * 3
    assert len(first.done) + len(second.done) == 15


async def test_a_job_that_lost_its_ticket_is_found(db: Any, database_url: str) -> None:
    host = Host()
    job, _ = await submit(database_url, PROJECT, NewJob("count"), numbers(3))
    async with open_tickets(database_url, "public") as tickets:
        assert await tickets.waiting() == {job.job_id}
        await execute(tickets, "DELETE FROM procrastinate_jobs")
        assert await tickets.waiting() == set()
    await serve(database_url, PROJECT, [host.pipeline], once=True)
    assert await over(db, job.job_id)


async def test_what_a_dead_process_took_is_put_back_or_dropped(database_url: str) -> None:
    async with open_tickets(database_url, "public") as tickets:
        manager = tickets.app.job_manager
        for job_id in ("a", "b"):
            await tickets.leave(PROJECT, job_id, "q")
            taken = await manager.fetch_job(["q"], await manager.register_worker())
            assert taken is not None
        await tickets.leave(PROJECT, "b", "q")
        assert await tickets.reap() == 0
        silent = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '40 s'"
        await execute(tickets, silent)
        assert await tickets.reap() == 2
        assert await tickets.waiting() == {"a", "b"}
        assert await tickets.reap() == 0


async def test_a_job_is_pending_until_somebody_lets_it_run(db: Any, database_url: str) -> None:
    host = Host()
    job, _ = await create_job(db, PROJECT, NewJob("count"), numbers(3))
    await serve(database_url, PROJECT, [host.pipeline], once=True)
    assert host.done == []
    await enqueue(database_url, PROJECT, job.job_id)
    await serve(database_url, PROJECT, [host.pipeline], once=True)
    assert len(host.done) == 3
    with pytest.raises(InvalidInputError, match="has no job"):
        await enqueue(database_url, PROJECT, "nothing")


async def test_paused_resumed_failed_and_retried(db: Any, database_url: str) -> None:
    host = Host()
    host.gate.clear()
    job, _ = await submit(database_url, PROJECT, NewJob("count"), numbers(20))
    async with serving(database_url, host, slots=Slots(4)):
        await until(lambda: host.under_way == 4)
        await control(db, PROJECT, job.job_id, "pause")
        host.fails = True
        host.gate.set()
        await until(lambda: host.under_way == 0)
        # Whoever resumes it need not know of workers: they look around.
        await control(db, PROJECT, job.job_id, "resume")
        await until(lambda: over(db, job.job_id))
        assert (await progress(db, PROJECT, job.job_id)).status == "failed"
        host.fails = False
        assert await retry(db, PROJECT, job.job_id) == 20
        await enqueue(database_url, PROJECT, job.job_id)
        await until(lambda: over(db, job.job_id))
    assert (await progress(db, PROJECT, job.job_id)).outcomes == {"done": 20}


async def test_a_worker_that_is_told_to_stop_lets_units_end(db: Any, database_url: str) -> None:
    host = Host()
    host.gate.clear()
    job, _ = await submit(database_url, PROJECT, NewJob("count"), numbers(20))
    async with serving(database_url, host, slots=Slots(4)) as stop:
        await until(lambda: host.under_way == 4)
        stop.set()
        host.gate.set()
    left = await progress(db, PROJECT, job.job_id)
    assert (left.counts["completed"], left.counts["queued"], left.counts["running"]) == (4, 16, 0)
    assert {u["tries"] async for u in units_of(db, PROJECT, job.job_id)} == {0, 1}


async def test_a_small_job_does_not_wait_for_the_end_of_a_large_one(
    db: Any, database_url: str
) -> None:
    large, small = Host("large"), Host("small")
    large.gate.clear()
    large.pause_s = 0.05  # so that all of it takes more than a minute
    first, _ = await submit(database_url, PROJECT, NewJob("large"), numbers(3000))
    async with serving(database_url, large, small, slots=Slots(2, 0, turn_s=0.1)):
        await until(lambda: large.under_way == 2)
        second, _ = await submit(database_url, PROJECT, NewJob("small"), numbers(3))
        # Its turn is over long since; what is under way is waited for, not given up.
        await asyncio.sleep(3)
        assert small.done == []
        large.gate.set()
        await until(lambda: over(db, second.job_id))
        far = await progress(db, PROJECT, first.job_id)
        assert not far.is_over
        gone_back_at = len(large.done)
        await until(lambda: len(large.done) > gone_back_at)
    assert len(small.done) == 3
    assert len(large.done) == len(set(large.done))
    far = await progress(db, PROJECT, first.job_id)
    assert (far.retries, far.interruptions) == (0, 0)


async def test_who_leaves_a_job_waits_for_what_is_under_way(db: Any) -> None:
    host, leave = Host(), asyncio.Event()
    host.gate.clear()
    job, _ = await create_job(db, PROJECT, NewJob("count"), numbers(20))
    working = asyncio.create_task(
        work(db, PROJECT, job.job_id, host.pipeline, slots=4, leave=leave)
    )
    await until(lambda: host.under_way == 4)
    leave.set()
    # Longer than a process that is told to stop would wait.
    await asyncio.sleep(GRACE_S + BEAT_S + 1)
    assert (working.done(), host.under_way) == (False, 4)
    host.gate.set()
    left = await working
    assert (left.status, left.counts["completed"], left.counts["queued"]) == ("running", 4, 16)


def test_of_several_processes_one_goes_to_a_job_that_nobody_is_at() -> None:
    def jobs(**owners: str) -> list[dict[str, Any]]:
        return [
            {"job_id": job_id, "owners": [{"owner": one} for one in names]}
            for job_id, names in owners.items()
        ]

    waiting = jobs(mine="ab", other="")
    assert is_turn_over("mine", 61, 60, "a", waiting)
    assert not is_turn_over("mine", 61, 60, "b", waiting)
    assert not is_turn_over("mine", 59, 60, "a", waiting)
    # With nothing in its hands it leaves soon.
    assert is_turn_over("mine", 5, 60, "c", waiting)
    assert not is_turn_over("mine", 1, 60, "c", waiting)
    for all_served in (jobs(mine="ab"), jobs(mine="ab", other="c"), jobs(other="c"), []):
        assert not is_turn_over("mine", 61, 60, "a", all_served)


async def test_a_unit_that_does_not_end_is_given_back(db: Any, database_url: str) -> None:
    host = Host()
    host.gate.clear()
    job, _ = await submit(database_url, PROJECT, NewJob("count"), numbers(3))
    async with serving(database_url, host):
        await until(lambda: host.under_way == 3)
    left = await progress(db, PROJECT, job.job_id)
    assert (left.status, left.counts["queued"], left.interruptions) == ("running", 3, 0)


async def test_older_code_leaves_newer_jobs_and_newer_code_takes_older_ones(
    db: Any, database_url: str
) -> None:
    old, new = Host(version=1), Host(version=2)
    ids = [
        (await submit(database_url, PROJECT, NewJob("count", version), numbers(4)))[0].job_id
        for version in (1, 2)
    ]
    await serve(database_url, PROJECT, [old.pipeline], once=True)
    assert len(old.done) == 4
    assert [await over(db, one) for one in ids] == [True, False]
    again, _ = await submit(database_url, PROJECT, NewJob("count", 1), numbers(9))
    await serve(database_url, PROJECT, [new.pipeline], once=True)
    assert [await over(db, one) for one in (*ids, again.job_id)] == [True] * 3
    assert len(new.done) == 13


async def test_units_of_the_dead_are_reaped_in_any_job(db: Any, database_url: str) -> None:
    host = Host()
    ids: list[str] = []
    for action in ("pause", "cancel", None):
        job, _ = await create_job(db, PROJECT, NewJob("another's"), numbers(3))
        await db.call("llm_job_begin", {"project": PROJECT, "job_id": job.job_id})
        asked = {"owner": f"elsewhere:{uuid4()}", "claim_id": str(uuid4()), "limit": 2}
        where = {"project": PROJECT, "job_id": job.job_id, "again": False}
        assert len((await db.call("llm_units_claim", {**where, **asked}))["units"]) == 2
        if action:
            await control(db, PROJECT, job.job_id, action)  # type: ignore[arg-type]
        ids.append(job.job_id)

    async def nobody_holds() -> bool:
        held = [(await progress(db, PROJECT, one)).counts["running"] for one in ids]
        return held == [0, 0, 0]

    async with serving(database_url, host):
        await until(nobody_holds)
    left = [(await progress(db, PROJECT, one)).counts for one in ids]
    assert [one.get("queued", 0) for one in left] == [3, 0, 3]
    assert left[1]["cancelled"] == 3


async def test_other_projects_are_left_alone(db: Any, database_url: str) -> None:
    host = Host()
    job, _ = await submit(database_url, "another", NewJob("count"), numbers(3))
    await serve(database_url, PROJECT, [host.pipeline], once=True)
    assert host.done == []
    assert (await progress(db, "another", job.job_id)).counts["queued"] == 3


async def test_many_that_start_at_once_make_the_tickets_schema_once(database_url: str) -> None:
    async def start() -> set[str | None]:
        async with open_tickets(database_url, "public") as tickets:
            return await tickets.waiting()

    assert await asyncio.gather(*(start() for _ in range(6))) == [set()] * 6


async def test_a_worker_needs_pipelines(database_url: str) -> None:
    for pipelines in ([], [Host().pipeline, Host().pipeline]):
        with pytest.raises(InvalidInputError, match="each with a name of its own"):
            await serve(database_url, PROJECT, pipelines)


def test_queues_have_names_that_fit_a_channel() -> None:
    assert queue_of("p", "count", 3) == "llm_common.p.count.v3"
    long = [queue_of("a project", "enrich " * 20, n) for n in (1, 2)]
    assert long[0] != long[1]
    assert all(len(one.encode()) <= LONGEST_QUEUE for one in long)
    assert queue_of("é" * 30, "x", 1) != queue_of("é" * 29, "x", 1)
    assert queues_of("p", [("a", 2), ("b", 1)]) == [
        "llm_common.p.a.v1",
        "llm_common.p.a.v2",
        "llm_common.p.b.v1",
    ]
