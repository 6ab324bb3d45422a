"""Worker processes of a test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

from tests.children import until
from tests.support import REPOSITORY

STARTED = '"event": "worker.started"'
COMMAND = (sys.executable, "-c", "from llm_common.cli import main; main()", "worker")


async def start(
    target: str, url: str, project: str, slots: int, folder: Path, log: Path
) -> Process:
    """Start one worker; its logs are added to a file."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *(*COMMAND, target, "--processes", "1", "--concurrency", str(slots)),
            *("--batch", "0", "--project", project),
            env={
                **os.environ,
                "DATABASE_URL": url,
                "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]),
            },
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=file,
        )


async def is_up(process: Process, log: Path) -> None:
    """Wait until a worker works: only then does it end in order when it is asked to."""
    this = f'"process": {process.pid}}}'
    await until(
        lambda: any(
            STARTED in line and line.endswith(this) for line in log.read_text().splitlines()
        )
    )


async def stop(process: Process, log: Path) -> None:
    """Ask a worker to end, and see that it does."""
    await is_up(process, log)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 120) == 0
