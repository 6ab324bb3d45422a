"""A new version takes the place of the old one, worker by worker, while both have jobs.

Each version is a worktree of its own, with its own copy of the library.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_common.runs import NewJob, NewUnit, progress, units_of
from llm_common.runs.workers import submit
from tests.children import until
from tests.scale import processes
from tests.support import REPOSITORY, skip_or_fail

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

PROJECT = "deploy"
WORKERS, SLOTS, UNITS = 3, 5, 300
SECONDS = {1: 2.0, 2: 0.1}
"""Of a unit by version: the old one has work left until the last of its workers is replaced."""
MODULE = """
import asyncio, os
import llm_common
from llm_common.runs import Pipeline

assert llm_common.__file__.startswith(os.path.dirname(os.path.abspath(__file__)))

VERSION = {version}

async def work(who):
    file = os.open({traces!r}, os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{{VERSION}} {{who}}\\n".encode())
    os.close(file)
    await asyncio.sleep({seconds})
    return VERSION

async def unit(run, given):
    return await run.step("work", work, {{"who": given["who"]}})

pipeline = Pipeline("deployed", unit, version=VERSION)
"""


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[dict[int, Path]]:
    """Check this library out twice, as a host's two versions have it."""
    found = {version: tmp_path / f"v{version}" for version in (1, 2)}
    try:
        for folder in found.values():
            git("worktree", "add", "--quiet", "--detach", str(folder), "HEAD")
        yield found
    finally:
        for folder in found.values():
            if folder.exists():
                git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> None:
    if not (REPOSITORY / ".git").exists():
        skip_or_fail("this is no git checkout, so there are no worktrees of it")
    subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True)


async def test_a_rolling_deploy_strands_nothing(
    db: Any, database_url: str, tmp_path: Path, folders: dict[int, Path]
) -> None:
    traces = tmp_path / "traces"
    traces.touch()
    for version, folder in folders.items():
        text = MODULE.format(version=version, traces=str(traces), seconds=SECONDS[version])
        (folder / "deployed_jobs.py").write_text(text)

    async def start(version: int) -> Any:
        return await processes.start(
            "deployed_jobs:pipeline",
            *(database_url, PROJECT, SLOTS, folders[version], tmp_path / "log"),
        )

    async def submitted(version: int, name: str) -> str:
        units = [NewUnit(f"u{n}", {"who": f"{name}-{n}"}) for n in range(UNITS)]
        return (await submit(database_url, PROJECT, NewJob("deployed", version), units))[0].job_id

    async def done(job_id: str, share: float) -> bool:
        return (await progress(db, PROJECT, job_id)).done >= share * UNITS

    workers = [await start(1) for _ in range(WORKERS)]
    try:
        old, new = await submitted(1, "old"), await submitted(2, "new")
        await until(lambda: done(old, 0.1))
        for place in range(WORKERS):
            await processes.stop(workers[place], tmp_path / "log")
            workers[place] = await start(2)
            before = (await progress(db, PROJECT, old)).done
            await until(lambda before=before: done(old, min(1, before / UNITS + 0.1)))
        for job_id in (old, new):
            await until(lambda job_id=job_id: done(job_id, 1), 240)
    finally:
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    by = {
        job_id: Counter([u["output"] async for u in units_of(db, PROJECT, job_id)])
        for job_id in (old, new)
    }
    assert by[new] == {2: UNITS}
    assert by[old].total() == UNITS
    assert set(by[old]) == {1, 2}
    begun = Counter(line.split(" ", 1)[1] for line in traces.read_text().splitlines())
    assert set(begun.values()) == {1}
    assert len(begun) == 2 * UNITS
    for job_id in (old, new):
        assert (await progress(db, PROJECT, job_id)).interruptions == 0
