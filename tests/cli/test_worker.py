"""`llm-common worker`: real processes that take jobs, die, are started again and stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_common.runs import NewJob, NewUnit, find_job, progress, units_of
from llm_common.runs.workers import submit
from tests.children import until
from tests.cli.command import Command
from tests.servers import fetch

PROJECT = "local"
MODULE = """
import asyncio, os
from llm_common.runs import Pipeline

async def wait(seconds, who):
    while os.path.exists(os.environ["HOLD"]):
        await asyncio.sleep(0.02)
    await asyncio.sleep(seconds)
    return {"pid": os.getpid(), "secret": "the prompt of " + who}

async def unit(run, given):
    return await run.step("wait", wait, {"seconds": given["s"], "who": run.unit_key})

pipeline = Pipeline("waiting", unit)
several = [pipeline, Pipeline("other", unit, version=2)]
nothing = 17

def made():
    return several

async def awaited():
    return pipeline
"""


@pytest.fixture
def host(cli: Command, tmp_path: Path) -> Command:
    """The command, where a module of a host can be imported."""
    (tmp_path / "host_jobs.py").write_text(MODULE)
    cli.environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.getcwd()])
    cli.environment["HOLD"] = str(tmp_path / "hold")
    return cli


@pytest.fixture
def hold(host: Command) -> Iterator[Path]:
    """A file: as long as it is there, no unit ends."""
    file = Path(host.environment["HOLD"])
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def holders(url: str) -> set[str]:
    """Return the processes that have units in their hands."""
    query = "SELECT DISTINCT owner FROM llm_units WHERE owner IS NOT NULL"
    return {owner for (owner,) in fetch(url, query)}


@asynccontextmanager
async def started(host: Command, *options: str) -> AsyncIterator[Process]:
    process = await host.start("worker", "host_jobs:pipeline", *options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def lines(text: bytes | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


async def submitted(url: str, count: int, seconds: float, **job: Any) -> str:
    units = [NewUnit(f"u{n}", {"s": seconds}) for n in range(count)]
    return (await submit(url, PROJECT, NewJob("waiting", **job), units))[0].job_id


async def completed(db: Any, job_id: str) -> bool:
    return (await find_job(db, PROJECT, job_id)).status == "completed"


async def pids_of(db: Any, job_id: str) -> list[int]:
    return [u["output"]["pid"] async for u in units_of(db, PROJECT, job_id) if u["output"]]


async def test_two_processes_share_a_job_and_end(
    host: Command, db: Any, database_url: str, hold: Path
) -> None:
    job_id = await submitted(database_url, 40, 0.02)
    options = ("--once", "--concurrency", "2", "--batch", "0")
    working = asyncio.create_task(host("worker", "host_jobs:made", *options))
    await until(lambda: working.done() or len(holders(database_url)) == 2)
    hold.unlink()
    ended = await working
    assert ended.code == 0, ended.err
    assert await completed(db, job_id)
    assert len(set(await pids_of(db, job_id))) == 2
    logged = lines(ended.err)
    units = [line for line in logged if line["event"] == "unit.ended"]
    assert {line["unit"] for line in units} == {f"u{n}" for n in range(40)}
    assert all(line["run"] and line["worker"] and line["outcome"] == "done" for line in units)
    assert "the prompt" not in ended.err


async def test_one_process_with_a_function_that_is_awaited(
    host: Command, db: Any, database_url: str
) -> None:
    job_id = await submitted(database_url, 3, 0)
    ended = await host("worker", "host_jobs:awaited", "--once", "--processes", "1")
    assert ended.code == 0, ended.err
    assert await completed(db, job_id)


async def test_a_process_that_is_killed_is_replaced(
    host: Command, db: Any, database_url: str, hold: Path
) -> None:
    job_id = await submitted(database_url, 60, 0.02)
    async with started(host, "--concurrency", "4") as watch:
        await until(lambda: len(holders(database_url)) == 2)
        first = holders(database_url)
        os.kill(psutil.Process(watch.pid).children()[0].pid, signal.SIGKILL)
        # The one that lives has its units, and the new one what the dead one had.
        await until(lambda: len(now := holders(database_url)) == 2 and len(now & first) == 1)
        hold.unlink()
        await until(lambda: completed(db, job_id))
        watch.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(watch.communicate(), 60)
    assert watch.returncode == 0, err
    done = await progress(db, PROJECT, job_id)
    assert done.outcomes == {"done": 60}
    assert 0 < done.interruptions <= 8
    assert {line["code"] for line in lines(err) if line["event"] == "worker.process_ended"} == {
        -9,
        0,
    }


async def test_a_signal_lets_units_end_and_gives_the_rest_back(
    host: Command, db: Any, database_url: str
) -> None:
    job_id = await submitted(database_url, 300, 0.3)
    async with started(host, "--concurrency", "3", "--batch", "0") as watch:

        async def under_way() -> bool:
            return (await progress(db, PROJECT, job_id)).counts["running"] >= 6

        await until(under_way)
        watch.send_signal(signal.SIGINT)
        await asyncio.wait_for(watch.communicate(), 60)
        assert watch.returncode == 0
    left = await progress(db, PROJECT, job_id)
    assert left.counts["running"] == 0
    assert left.counts["completed"] >= 6
    assert left.counts["queued"] == 300 - left.counts["completed"] > 0
    assert left.interruptions == 0


async def test_processes_end_with_the_one_that_watches(host: Command, database_url: str) -> None:
    async with started(host) as watch:
        await until(lambda: len(psutil.Process(watch.pid).children()) == 2)
        children = psutil.Process(watch.pid).children()
        watch.kill()
        await until(lambda: not any(child.is_running() for child in children))


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("host_jobs", "write MODULE:NAME"),
        ("host_jobs:", "write MODULE:NAME"),
        ("no_such_module:pipeline", "there is no module no_such_module"),
        ("host_jobs:absent", "host_jobs has nothing named absent"),
        ("host_jobs:nothing", "is no Pipeline"),
    ],
)
async def test_what_is_no_pipeline(host: Command, target: str, complaint: str) -> None:
    ended = await host("worker", target, "--processes", "1")
    assert ended.code == 2
    assert complaint in ended.complaint
