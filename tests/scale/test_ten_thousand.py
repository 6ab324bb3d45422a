"""10,000 rows, 200 at a time: all of them once, and a worker that does not grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_common.runs import NewJob, NewUnit, create_job, progress
from tests import children
from tests.servers import fetch

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

PROJECT = "many"
ROWS, EARLY = 10_000, 2_000
WORK = """
import asyncio, json, os
from llm_common.database import connect
from llm_common.runs import CommitHook, Pipeline, work

seen = []

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

async def step(x):
    await asyncio.sleep(0.2)
    return {"x": x, "text": "a" * 2000}

async def unit(run, given):
    return (await run.step("step", step, {"x": given["x"]}))["x"]

async def count(ended):
    seen.append((len(ended), rss()))

async def main():
    db = connect(os.environ["DATABASE_URL"])
    pipeline, hook = Pipeline("many", unit), CommitHook(500, count)
    await work(db, "many", os.environ["JOB"], pipeline, slots=200, on_commit=hook)
    print(json.dumps(seen))

asyncio.run(main())
"""


async def test_ten_thousand_rows(db: Any, database_url: str, tmp_path: Path) -> None:
    units = (NewUnit(f"u{n}", {"x": n, "text": "b" * 2000}) for n in range(ROWS))
    job, _ = await create_job(db, PROJECT, NewJob("many"), units)
    told = json.loads(
        await children.output(
            await children.start(WORK, DATABASE_URL=database_url, JOB=job.job_id), 800
        )
    )
    done = await progress(db, PROJECT, job.job_id)
    assert done.outcomes == {"done": ROWS}
    assert (done.retries, done.interruptions) == (0, 0)
    steps = fetch(
        database_url,
        "SELECT state, attempt, repeats, count(*) FROM pipeline_steps GROUP BY 1, 2, 3",
    )
    assert steps == [("done", 1, 0, ROWS)]
    assert sum(count for count, _ in told) == ROWS
    # Once it has reached its full number of slots.
    early, late = told[EARLY // 500 - 1][1], told[-1][1]
    print(
        f"\nresident: {early / 1e6:.1f} MB after {EARLY:,} rows, {late / 1e6:.1f} MB after {ROWS:,}"
    )
    assert late < early + 8e6
