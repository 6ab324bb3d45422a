"""Watching a job: until it is over, and without being most of its load."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

from llm_common.runs import JobProgress, NewJob, NewUnit, control, create_job, progress
from llm_common.runs.progress import looks


async def test_who_watches_a_large_job_looks_less_often(db: Any) -> None:
    job, _ = await create_job(db, "watched", NewJob("any"), [NewUnit("u1", {})])
    began: list[float] = []

    async def slow() -> JobProgress:
        began.append(time.monotonic())
        await asyncio.sleep(0.05)
        if len(began) == 3:
            await control(db, "watched", job.job_id, "cancel")
        return await progress(db, "watched", job.job_id)

    seen = [far.status async for far in looks(slow, every_s=0.01)]
    assert seen == ["pending", "pending", "cancelled"]
    assert all(later - sooner >= 0.5 for sooner, later in pairwise(began))
