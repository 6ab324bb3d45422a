"""Processes that read the pages of a crawl, off its event loop and on the other cores.

A page that takes too long, or twice brings its process down, is `TOO_COMPLEX`. Its process is
replaced, and what was waiting behind the page is read by the next.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from ..errors import LLMCommonError
from ..telemetry import event, logger
from .extractor import Page, packed, written
from .frames import framed, next_frame
from .models import PageContent, Reason

PAGE_SECONDS = 30.0
"""That one page may take; the largest of articles take a second."""
MOST_READERS = 4
"""The crawl's own part of the work keeps about so many busy."""

_CODE = """
import sys
sys.path[:] = {path!r}
from llm_common.crawling.reader_child import main
main({seconds!r})
"""


Read = tuple[PageContent, str]
"""What a page says, and that as it is stored."""


@dataclass(slots=True)
class _Job:
    page: Page
    read: asyncio.Future[Read]
    has_failed: bool = False


class Readers:
    """Read pages in processes that are started when there are pages, and ended by `aclose`.

    Args:
        number: of processes; one for each core but that of the crawl by default.
        page_seconds: that one page may take.
    """

    def __init__(self, number: int | None = None, *, page_seconds: float = PAGE_SECONDS) -> None:
        number = number or min(max(1, (os.cpu_count() or 1) - 1), MOST_READERS)
        self._readers = [_Reader(page_seconds) for _ in range(number)]

    def start(self) -> None:
        """Start the first process, while the first page is on its way."""
        self._readers[0].start()

    async def read(self, page: Page) -> Read:
        """Read a page as the library's own extractor does.

        Raises:
            LLMCommonError: no process could be started.
        """
        job = _Job(page, asyncio.get_running_loop().create_future())
        min(self._readers, key=lambda reader: len(reader.jobs)).take(job)
        return await job.read

    async def aclose(self) -> None:
        """End the processes, whatever they are at."""
        await asyncio.gather(*(reader.aclose() for reader in self._readers))


class _Reader:
    """One process at a time, and the pages that it has not answered.

    Attributes:
        jobs: the first of them is being read.
    """

    def __init__(self, page_seconds: float) -> None:
        self.jobs: deque[_Job] = deque()
        self._page_seconds = page_seconds
        self._process: Process | None = None
        self._working: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    def take(self, job: _Job) -> None:
        self.jobs.append(job)
        self.start()
        if self._process is not None:
            _send(self._process, job)

    async def aclose(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    async def _work(self) -> None:
        """Let one process after the other read, until one ends with nothing left to read."""
        try:
            self._judge(await self._process_ended())
            while self.jobs:
                self._judge(await self._process_ended())
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            while self.jobs:
                _settle(self.jobs.popleft(), error)

    async def _process_ended(self) -> int:
        """Start a process, take its answers, and return its status once it has ended."""
        process = await _started(self._page_seconds)
        assert process.stdin
        assert process.stdout
        try:
            with suppress(asyncio.IncompleteReadError):
                await next_frame(process.stdout)
                self._process = process
                for job in self.jobs:
                    _send(process, job)
                while True:
                    answer = await next_frame(process.stdout)
                    _settle(self.jobs.popleft(), _read(*answer))
            was_ready, self._process = self._process is not None, None
            status = await process.wait()
        finally:
            self._process = None
            await _end(process)
        if not was_ready:
            raise LLMCommonError(
                f"the process that reads pages did not start: {sys.executable} ended with {status}"
            )
        return status

    def _judge(self, status: int) -> None:
        """Find the page at fault: one that took too long, or brought two processes down."""
        if not self.jobs:
            return
        event("crawl.reader_ended", level=logging.WARNING, status=status)
        first = self.jobs[0]
        if status == -signal.SIGALRM or first.has_failed:
            content = PageContent(url=first.page.url, reason=Reason.TOO_COMPLEX)
            _settle(self.jobs.popleft(), (content, packed(written(content))))
        first.has_failed = True


async def _started(page_seconds: float) -> Process:
    # A session of its own: a reader and the process that reads a PDF for it end together.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CODE.format(path=sys.path, seconds=page_seconds)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    assert process.stdin
    # The number of one that has been waited for may be another's by now.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    await process.wait()


def _send(process: Process, job: _Job) -> None:
    assert process.stdin
    page = job.page
    media_type = (page.media_type or "").encode("utf-8", "surrogateescape")
    process.stdin.write(framed(page.url.encode(), media_type, page.body))


def _read(content: bytes, stored: bytes, logged: bytes) -> Read:
    for level, message in json.loads(logged or b"[]"):
        logger.log(level, "%s", message)
    return PageContent.model_validate_json(content), stored.decode("ascii")


def _settle(job: _Job, read: Read | Exception) -> None:
    if job.read.done():
        return
    if isinstance(read, Exception):
        job.read.set_exception(read)
    else:
        job.read.set_result(read)
