"""Processes at one job that are killed, or stopped and given up: nothing finished is done again."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_common.runs import NewJob, NewUnit, Outcome, create_job, progress, units_of, work
from llm_common.runs.liveness import SILENT_S, reap
from tests import children
from tests.runs.conftest import Table
from tests.runs.two_steps import PROJECT, TwoSteps, let_go
from tests.servers import fetch

SLOTS = 8
CHILD = """
import asyncio, os
from llm_common.database import connect
from llm_common.runs import work
from tests.runs.two_steps import PROJECT, TwoSteps

async def main():
    db = connect(os.environ["DATABASE_URL"])
    host = TwoSteps(os.environ["TRACES"], "child", int(os.environ["MOST"]))
    done = await work(db, PROJECT, os.environ["JOB"], host.pipeline, slots=8)
    print(done.status)

asyncio.run(main())
"""


async def make(db: Any, count: int) -> str:
    units = [NewUnit(f"u{n}", {"x": n}) for n in range(count)]
    return (await create_job(db, PROJECT, NewJob("two steps"), units))[0].job_id


def at_job(url: str, job_id: str, traces: Path, most: int) -> dict[str, str]:
    """Return what a child is told; it goes no further than so many executions."""
    return {"DATABASE_URL": url, "JOB": job_id, "TRACES": str(traces), "MOST": str(most)}


def executions(traces: Path) -> Counter[str]:
    """How often each step of each unit was begun, by whomever."""
    return Counter(line.split(" ", 1)[1] for line in traces.read_text().splitlines())


def finished(url: str) -> set[str]:
    query = (
        "SELECT r.unit_key || ' ' || s.step FROM pipeline_steps s"
        " JOIN pipeline_runs r ON r.id = s.run_id WHERE s.state = 'done'"
    )
    return {one for (one,) in fetch(url, query)}


def repeats(url: str) -> int:
    ((count,),) = fetch(url, "SELECT sum(repeats)::int FROM pipeline_steps")
    return count


async def test_a_killed_process_is_replaced_at_once_and_nothing_finished_is_done_again(
    db: Any, database_url: str, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    traces.touch()
    job_id = await make(db, 120)
    environment = at_job(database_url, job_id, traces, 200)
    async with children.killed(CHILD, **environment):
        await children.until(lambda: len(finished(database_url)) > 60)
    before, done_before = executions(traces), finished(database_url)
    assert len(done_before) < 240
    done = await work(db, PROJECT, job_id, TwoSteps(traces, "test").pipeline, slots=SLOTS)
    assert done.outcomes == {Outcome.DONE: 120}
    after = executions(traces)
    assert {step: after[step] for step in done_before} == dict.fromkeys(done_before, 1)
    again = after.total() - len(after)
    assert len(after) == 240
    assert again <= repeats(database_url) <= SLOTS
    assert before.total() - len(done_before) <= SLOTS
    # Before it could be taken for silent: the lock of its spool told.
    ((waited,),) = fetch(
        database_url,
        "SELECT extract(epoch FROM (SELECT max(completed_at) FROM pipeline_runs) - min(seen_at))"
        "::float8 FROM llm_workers",
    )
    assert waited < SILENT_S
    units = [unit async for unit in units_of(db, PROJECT, job_id)]
    assert [unit["output"] for unit in units] == [4 * n + 1 for n in range(120)]
    # Those in its hands, the ones among them that waited for a slot as well.
    assert 0 < done.interruptions <= 2 * SLOTS
    assert {unit["tries"] for unit in units} == {1}


async def test_of_two_processes_the_living_one_takes_what_the_dead_one_held(
    db: Any, database_url: str, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    traces.touch()
    job_id = await make(db, 200)
    environment = at_job(database_url, job_id, traces, 200)
    async with children.killed(CHILD, **environment):
        await children.until(lambda: len(finished(database_url)) > 20)
        host = TwoSteps(traces, "test")
        working = asyncio.create_task(work(db, PROJECT, job_id, host.pipeline, slots=SLOTS))
        await children.until(lambda: traces.read_text().count("test ") > 20)
    done_before = finished(database_url)
    done = await working
    assert done.outcomes == {Outcome.DONE: 200}
    after = executions(traces)
    assert all(after[step] == 1 for step in done_before)
    assert after.total() - len(after) <= repeats(database_url) <= SLOTS


async def test_a_process_with_a_state_folder_of_its_own_is_not_taken_for_dead(
    db: Any, database_url: str, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    traces.touch()
    job_id = await make(db, 150)
    environment = at_job(database_url, job_id, traces, 300)
    apart = await children.start(
        CHILD, **environment, LLM_COMMON_STATE_DIR=str(tmp_path / "another user's")
    )
    await children.until(lambda: len(finished(database_url)) > 10)
    done = await work(db, PROJECT, job_id, TwoSteps(traces, "test").pipeline, slots=SLOTS)
    assert await children.output(apart) == "completed"
    assert (done.outcomes, done.interruptions) == ({Outcome.DONE: 150}, 0)
    assert set(executions(traces).values()) == {1}


@pytest.mark.parametrize("after", [10, 40])
async def test_a_zombie_is_fenced(
    db: Any, database_url: str, table: Table, tmp_path: Path, after: int
) -> None:
    traces = tmp_path / "traces"
    traces.touch()
    job_id = await make(db, 60)
    environment = at_job(database_url, job_id, traces, 80)
    zombie = await children.start(CHILD, **environment)
    await children.until(lambda: len(finished(database_url)) > after)
    zombie.send_signal(signal.SIGSTOP)
    ((owner,),) = fetch(
        database_url, "SELECT DISTINCT owner FROM llm_units WHERE owner IS NOT NULL"
    )
    # As a process on another machine would, when it hears nothing.
    where = {"project": PROJECT, "job_id": job_id}
    assert (await reap(db, where, [owner], []))["requeued"] > 0
    done = await work(db, PROJECT, job_id, TwoSteps(traces, "test").pipeline, slots=SLOTS)
    assert done.outcomes == {Outcome.DONE: 60}
    stored = table("pipeline_runs"), table("pipeline_steps"), table("pipeline_jobs")
    let_go(traces)
    zombie.send_signal(signal.SIGCONT)
    assert await children.output(zombie) == "completed"
    assert (table("pipeline_runs"), table("pipeline_steps"), table("pipeline_jobs")) == stored
    assert await progress(db, PROJECT, job_id)
    counted = executions(traces)
    assert counted.total() - len(counted) <= repeats(database_url) <= SLOTS
