"""Processes of our own: what a crash leaves behind can only be shown on a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.support import REPOSITORY


async def start(code: str, **environment: str) -> Process:
    """Start a Python process in this test's environment, with more variables."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def output(process: Process, timeout_s: float = 150) -> str:
    """Return what a process printed; it must end well."""
    out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def run(code: str, **environment: str) -> str:
    """Run a process to its end and return what it printed."""
    return await output(await start(code, **environment))


@asynccontextmanager
async def killed(code: str, **environment: str) -> AsyncIterator[Process]:
    """Lend a running process, and end it by SIGKILL."""
    process = await start(code, **environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
    assert process.returncode == -signal.SIGKILL, "the process ended before it was killed"


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 120) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)
