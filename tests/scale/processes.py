"""Worker processes of a test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

from tests.support import REPOSITORY

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


async def stop(process: Process) -> None:
    """Ask a worker to end, and see that it does."""
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
