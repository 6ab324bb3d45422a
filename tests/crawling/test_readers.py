"""Pages are read in other processes, which may be killed at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llm_common.crawling import Fetched, Reason, fault_of, read_page
from llm_common.crawling.batches import Batches
from llm_common.crawling.extractor import Page, unpacked, written
from llm_common.crawling.readers import Readers
from llm_common.errors import LLMCommonError
from tests import children

HTML = "text/html; charset=utf-8"
SLOW = Page("http://example.org/slow", "", b"<p>a <b>b</b>" * 400_000, HTML)
"""Takes seconds to read."""
SLOWER = Page("http://example.org/slower", "", b"<p>a <b>b</b>" * 700_000, HTML)
"""Nobody waits for the end of it."""
PATIENCE_S = 150
"""For a page that is read to its end."""
BUSY_MIB = 150
"""More than a reader has that is at no such page."""


def page(n: int) -> Page:
    body = f"<html><title>Page {n}</title><p>It says {n}.<a href='/{n + 1}'>next</a>"
    return Page(f"http://example.org/{n}", "", body.encode(), HTML)


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    made = Readers(1, page_seconds=PATIENCE_S)
    yield made
    await made.aclose()


def readers_of(pid: int) -> list[int]:
    """Return the children of a process that read pages."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for file in found for child in file.read_text().split()]
    return [p for p in pids if b"reader_child" in command_of(p)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
        return b""


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def test_a_page_says_what_it_says_here(readers: Readers) -> None:
    pages = [page(n) for n in range(20)]
    pages.append(Page("http://example.org/ж", "", b"plain \xe9", "text/plain; charset=\udce9"))
    pages.append(Page("http://example.org/none", "", b"", None))
    read = await asyncio.gather(*map(readers.read, pages))
    for sent, (content, stored) in zip(pages, read, strict=True):
        headers = {"content-type": sent.media_type or ""}
        fetched = Fetched(sent.url, sent.url, Reason.FETCHED, body=sent.body, headers=headers)
        assert content == read_page(fetched)
        assert unpacked(stored) == written(content)
    assert len(readers_of(os.getpid())) == 1


async def test_a_page_without_end_harms_no_other() -> None:
    readers = Readers(1, page_seconds=2)
    before, after = [page(n) for n in range(3)], [page(n) for n in range(3, 6)]
    try:
        first, slow, last = await asyncio.gather(
            asyncio.gather(*map(readers.read, before)),
            readers.read(SLOWER),
            asyncio.gather(*map(readers.read, after)),
        )
        again, _ = await readers.read(page(7))
    finally:
        await readers.aclose()
    content, stored = slow
    assert (content.url, content.reason, content.text) == (SLOWER.url, Reason.TOO_COMPLEX, "")
    assert unpacked(stored) == written(content)
    assert fault_of(content.reason) == "site"
    assert [c.title for c, _ in (*first, *last)] == [f"Page {n}" for n in range(6)]
    assert again.title == "Page 7"
    assert readers_of(os.getpid()) == []


async def killed(number: int) -> None:
    """Kill so many readers of this process, one after the other."""
    for _ in range(number):
        await children.until(lambda: bool(readers_of(os.getpid())))
        (pid,) = readers_of(os.getpid())
        await children.until(lambda pid=pid: resident_mib(pid) > BUSY_MIB)
        os.kill(pid, signal.SIGKILL)
        await children.until(lambda pid=pid: pid not in readers_of(os.getpid()))


async def test_a_page_whose_reader_is_killed_once_is_read_again(readers: Readers) -> None:
    reading = asyncio.gather(readers.read(SLOW), readers.read(page(1)))
    await killed(1)
    (slow, _), (other, _) = await reading
    assert slow.reason is Reason.FETCHED
    assert slow.text.startswith("a b")
    assert other.title == "Page 1"


async def test_a_page_that_brings_two_readers_down_is_given_up(readers: Readers) -> None:
    reading = asyncio.gather(readers.read(SLOWER), readers.read(page(1)))
    await killed(2)
    (slow, _), (other, _) = await reading
    assert slow.reason is Reason.TOO_COMPLEX
    assert other.title == "Page 1"


async def test_closing_ends_a_reader_that_is_busy() -> None:
    readers = Readers(1)
    reading = asyncio.create_task(readers.read(SLOWER))
    await children.until(lambda: bool(readers_of(os.getpid())))
    reading.cancel()
    await readers.aclose()
    assert readers_of(os.getpid()) == []


HOST = """
import asyncio
from llm_common.crawling.extractor import Page
from llm_common.crawling.readers import Readers

async def main():
    readers = Readers(1, page_seconds=3)
    await readers.read(Page("http://example.org/", "", b"<p>Here</p>", "text/html"))
    print("ready", flush=True)
    if {busy}:
        await readers.read(Page("http://example.org/", "", b"<p>a <b>b</b>" * 700_000, "text/html"))
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("busy", [False, True])
async def test_a_reader_does_not_outlive_its_parent(busy: bool) -> None:
    async with children.killed(HOST.format(busy=busy)) as parent:
        assert parent.stdout
        assert await parent.stdout.readline() == b"ready\n"
        (pid,) = readers_of(parent.pid)
        await asyncio.sleep(0.5 if busy else 0)
    await children.until(lambda: not is_running(pid))


async def test_a_reader_that_can_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    readers = Readers(1)
    with pytest.raises(LLMCommonError, match="did not start: /bin/false ended with 1"):
        await asyncio.gather(readers.read(page(1)), readers.read(page(2)))
    await readers.aclose()


async def test_batches_ask_together_and_tell_all_of_a_failure() -> None:
    asked: list[list[int]] = []

    async def doubled(numbers) -> list[int]:
        asked.append(list(numbers))
        await asyncio.sleep(0)
        if 13 in numbers:
            raise ValueError("unlucky")
        return [2 * n for n in numbers]

    batches = Batches(doubled)
    assert await asyncio.gather(*map(batches.ask, range(10))) == [2 * n for n in range(10)]
    assert asked == [list(range(10))]
    failed = await asyncio.gather(batches.ask(13), batches.ask(1), return_exceptions=True)
    assert [str(error) for error in failed] == ["unlucky", "unlucky"]
    assert await batches.ask(2) == 4
