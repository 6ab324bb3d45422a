"""The example hosts as they run in production: processes of uvicorn, replaced without a gap."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.children import until
from tests.support import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
WORKERS = 2
START_TIMEOUT_S = 180
NOT_OF_A_HOST = ("LLM_COMMON_PROJECT",)
GUARD = 'cat >/dev/null; kill -TERM "$0" 2>/dev/null'
"""Waits for the end of its input, which is ours, and stops the host."""


@dataclass
class Instance:
    """One uvicorn with its workers.

    Attributes:
        busy: requests under way, as a load balancer counts them.
        said: the last lines of its log.
    """

    process: Process
    guard: subprocess.Popen[bytes]
    url: str = ""
    busy: int = 0
    said: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    workers: set[str] = field(default_factory=set)
    reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Keep what it says, and learn its address."""
        assert self.process.stderr
        async for line in self.process.stderr:
            self.said.append(line.decode().rstrip())
            if found := re.search(r"running on (http://\S+:\d+)", self.said[-1]):
                self.url = found[1]

    async def is_up(self) -> bool:
        """Whether every worker has answered."""
        assert self.process.returncode is None, "\n".join(self.said)
        if not self.url:
            return False
        try:
            async with httpx.AsyncClient(timeout=START_TIMEOUT_S) as client:
                answer = await client.get(f"{self.url}/healthz")
        except httpx.ConnectError:
            # The address is said before anybody listens.
            return False
        self.workers.add(answer.headers["x-served-by"])
        return len(self.workers) == WORKERS

    async def stop(self) -> None:
        """Let it finish what is under way, and end it as a platform does."""
        await until(lambda: self.busy == 0)
        if self.process.returncode is None:
            self.process.terminate()
        await asyncio.wait_for(self.process.wait(), 120)
        if self.reader:
            await self.reader
        self.guard.kill()
        self.guard.communicate()
        assert self.process.returncode == 0, "\n".join(self.said)


class Deployment:
    """A host behind a load balancer: a new version serves before the old one goes."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {k: v for k, v in os.environ.items() if k not in NOT_OF_A_HOST}
        self._environment |= environment
        self._instance: Instance | None = None

    @property
    def workers(self) -> set[str]:
        """The process ids of those that serve now."""
        assert self._instance
        return self._instance.workers

    @property
    def log(self) -> str:
        """What the host has said lately."""
        assert self._instance
        return "\n".join(self._instance.said)

    async def deploy(self, folder: Path | None = None, **environment: str) -> None:
        """Start the host anew, maybe from another folder, and send all requests there."""
        self.folder = folder or self.folder
        instance = await self._start(self._environment | environment)
        before, self._instance = self._instance, instance
        if before:
            await before.stop()

    async def stop(self) -> None:
        """End it."""
        if self._instance:
            await self._instance.stop()

    @asynccontextmanager
    async def address(self) -> AsyncIterator[str]:
        """Lend the address for one request."""
        assert self._instance
        instance = self._instance
        instance.busy += 1
        try:
            yield instance.url
        finally:
            instance.busy -= 1

    async def _start(self, environment: Mapping[str, str]) -> Instance:
        serve = ("-m", "uvicorn", "backend.main:app", "--no-access-log", "--port", "0")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *serve, "--workers", str(WORKERS)),
            cwd=self.folder,
            env=environment,
            stderr=PIPE,
        )
        guard = subprocess.Popen(["sh", "-c", GUARD, str(process.pid)], stdin=subprocess.PIPE)
        instance = Instance(process, guard)
        instance.reader = asyncio.create_task(instance.read())
        try:
            await until(instance.is_up, START_TIMEOUT_S)
        except BaseException:
            await instance.stop()
            raise
        return instance


@asynccontextmanager
async def deployed(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Deployment]:
    """Run the host in a folder until the block ends."""
    deployment = Deployment(folder, environment)
    await deployment.deploy()
    try:
        yield deployment
    finally:
        await deployment.stop()


def without_old_code(host: str, folder: Path) -> Path:
    """Copy a host and take its old code out, by its own last step."""
    copy = folder / host
    shutil.copytree(EXAMPLES / host, copy, ignore=shutil.ignore_patterns(".cache", "__pycache__"))
    subprocess.run(["make", "remove-old"], cwd=copy, check=True, stdout=subprocess.DEVNULL)
    return copy
