"""The crawl of a site: turns that read what came, write it down, and ask for what is next.

A turn is one transaction: pages that ended, the links that they lead to, and the claims on what
is asked for next are durable together, before the next request is sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import DatabaseError, FencedError, InvalidInputError
from ..telemetry import event
from .extractor import Page
from .frontier import Entry, Found, Frontier
from .models import Fetched, Fetcher, PageContent, Reason
from .page_cache import PageCache, Row, body_row, hash_of
from .relevance import relevance
from .robots import RobotsCache
from .sitemaps import read_sitemaps
from .store import CrawlStore
from .urls import normalize_url, origin_of

HEARTBEAT_S = 60.0
GATHER_S = 0.008
"""What a turn waits for more to end once something has: a turn costs two calls of the database,
however many pages it has.
"""
MOST_LINKS = 10_000
"""Links of one page that are taken."""
TURN_BYTES = 8_000_000
"""Of the bodies that one turn writes down; what came besides waits for the next."""


@dataclass(frozen=True, slots=True)
class CrawledPage:
    """A URL that was asked for, and how it ended.

    Attributes:
        depth: links from a seed.
        parent: the page that it was found on, or the redirect that led to it.
        content: what the page says; None unless it answered with a document.
        content_hash: SHA-256 of its bytes, in hex.
        duplicate_of: the URL of this crawl that gave the same bytes first.
        attempts: requests that were made for it, those that were cut off by a kill aside.
    """

    url: str
    depth: int
    reason: Reason
    status: int | None = None
    parent: str | None = None
    content: PageContent | None = None
    content_hash: str | None = None
    duplicate_of: str | None = None
    redirect_to: str | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class _Visit:
    """What came of a claimed URL, and of a page its hash, what it says, and what to store."""

    entry: Entry
    fetched: Fetched
    asked: bool = True
    content: PageContent | None = None
    content_hash: str = ""
    body: Row | None = None
    read: Row | None = None


class Crawl:
    """A crawl that is going on; made by `crawl` or `resume`. Iterate over it for its pages.

    Attributes:
        id: for `resume` and `stored_pages`.
        config: what it was told.
        is_complete: nothing is left that may be asked for.
    """

    def __init__(
        self,
        store: CrawlStore,
        frontier: Frontier,
        cache: PageCache,
        fetcher: Fetcher,
        plain: Fetcher,
    ) -> None:
        self.id = store.crawl.id
        self.config = store.crawl.config
        self.is_complete = False
        self._store = store
        self._frontier = frontier
        self._fetcher = fetcher
        self._cache = cache
        self._plain = plain
        self._robots = RobotsCache(plain)
        self._tasks: set[asyncio.Task[_Visit]] = set()
        self._visits: deque[_Visit] = deque()
        self._ready: deque[CrawledPage] = deque()
        self._commit: asyncio.Task[None] | None = None
        self._recorded_at = 0.0
        self._is_over = self._is_closed = False

    @property
    def pages(self) -> int:
        """URLs that answered with a document so far, those of earlier processes included."""
        return self._frontier.pages

    @property
    def known(self) -> int:
        """URLs that are known so far, whatever became of them."""
        return len(self._frontier)

    def __aiter__(self) -> Crawl:
        return self

    async def __anext__(self) -> CrawledPage:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            try:
                await self._turn()
            except BaseException:
                # What this turn held is written nowhere: only a resumed crawl knows where it is.
                self._is_over = True
                raise
        return self._ready.popleft()

    async def seed(self) -> None:
        """Offer the seeds, and what the sitemaps of their sites list, to an empty frontier."""
        seeds, now = self._store.crawl.seeds, time.time()
        for index, url in enumerate(seeds):
            self._frontier.offer(Found(url, 0, index), now)
        if not self.config.use_sitemaps:
            return
        maps: dict[str, None] = {}
        for seed in seeds:
            named = (await self._robots.rules_for(seed)).sitemaps
            maps.update(dict.fromkeys(named or [f"{origin_of(seed)}/sitemap.xml"]))
        first = self._frontier.next_expansion()
        for index, url in enumerate(await read_sitemaps(self._plain, maps)):
            if found := self._normal(url):
                self._frontier.offer(Found(found, 1, first + index, "sitemap"), now)

    async def aclose(self) -> None:
        """Stop; requests in flight are given up, and are made again by whoever resumes."""
        if self._is_closed:
            return
        self._is_over = self._is_closed = True
        try:
            await self._committed()
        except (DatabaseError, FencedError) as error:
            event("crawl.turn_lost", level=logging.WARNING, error=type(error).__name__)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cache.aclose()
        try:
            await self._store.close("completed" if self.is_complete else "stopped")
        except (DatabaseError, FencedError) as error:
            event("crawl.not_closed", level=logging.WARNING, error=type(error).__name__)

    async def _turn(self) -> None:
        """Take what ended, and ask for what is next."""
        visits = await self._ended()
        await self._committed()
        now = time.time()
        nearer = [n for visit in visits for n in self._settle(visit, now)]
        await self._bring_nearer(nearer, {v.entry.url: v.content for v in visits}, now)
        claimed = self._frontier.claim(now)
        self._commit = asyncio.create_task(self._record(visits, claimed))
        idle = not (self._tasks or self._visits or claimed)
        if idle and self._frontier.next_at() is None:
            await self._committed()
            self._is_over = self.is_complete = True

    async def _ended(self) -> list[_Visit]:
        """Return visits that have ended; none when it is time to claim, or to show life."""
        if not self._visits and self._commit is not None:
            at = self._frontier.next_at()
            timeout_s = HEARTBEAT_S if at is None else min(max(at - time.time(), 0), HEARTBEAT_S)
            pending = {*self._tasks, self._commit} if not self._commit.done() else self._tasks
            if pending:
                await asyncio.wait(pending, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(timeout_s)
        if len(self._tasks) > 1 and any(task.done() for task in self._tasks):
            await asyncio.wait(self._tasks, timeout=GATHER_S)
        done = {task for task in self._tasks if task.done()}
        self._visits.extend([task.result() for task in done])
        self._tasks -= done
        taken: list[_Visit] = []
        size = 0
        while self._visits and (not taken or size < TURN_BYTES):
            taken.append(self._visits.popleft())
            size += len(taken[-1].fetched.body)
        return taken

    async def _visit(self, entry: Entry) -> _Visit:
        self._cache.expect()
        crawl_delay_s = None
        if self.config.respect_robots:
            rules = await self._robots.rules_for(entry.url)
            crawl_delay_s = rules.crawl_delay()
            refusal = rules.refusal(entry.url)
            if refusal is not None:
                self._frontier.learned(entry.host, crawl_delay_s, time.time())
                return _Visit(entry, Fetched(entry.url, entry.url, refusal), asked=False)
        self._frontier.learned(entry.host, crawl_delay_s, time.time())
        fetched = await self._fetcher.fetch(entry.url, hops=0)
        if fetched.reason is not Reason.FETCHED:
            return _Visit(entry, fetched)
        media_type = fetched.headers.get("content-type")
        page = Page(entry.url, hash_of(fetched.body), fetched.body, media_type)
        content, row = await self._cache.read(page)
        return _Visit(entry, fetched, True, content, page.content_hash, body_row(page), row)

    def _settle(self, visit: _Visit, now: float) -> list[Entry]:
        """Take note of a visit and of where it leads; return what became nearer by it."""
        entry, fetched = visit.entry, visit.fetched
        self._frontier.ended(entry, fetched, now, asked=visit.asked)
        if fetched.reason is Reason.REDIRECTED:
            target = self._normal(fetched.redirect_to or "")
            if target is None:
                self._frontier.refuse(entry, Reason.BROKEN_ANSWER)
                return []
            nearer = self._frontier.add_redirect(entry, target, now)
            return [nearer] if nearer else []
        content = visit.content
        if content is None:
            return []
        self._frontier.add_page(entry, visit.content_hash)
        if content.reason is not Reason.FETCHED:
            self._frontier.refuse(entry, content.reason)
        return self._offer(self._links(entry, content), now)

    def _offer(self, found: Iterable[Found], now: float) -> list[Entry]:
        offered = (self._frontier.offer(one, now) for one in found)
        return [entry for entry in offered if entry is not None]

    def _links(self, entry: Entry, content: PageContent) -> Iterator[Found]:
        first = self._frontier.next_expansion()
        keywords = self.config.keywords
        for index, link in enumerate(content.links[:MOST_LINKS]):
            url = self._normal(link.url)
            if url is not None and url != entry.url:
                score = relevance(url, link.text, keywords) if keywords else 0.0
                yield Found(url, entry.depth + 1, first + index, entry.url, score)

    async def _bring_nearer(
        self, nearer: list[Entry], read: dict[str, PageContent | None], now: float
    ) -> None:
        """Follow shorter ways through pages that were read before; nothing is fetched for it.

        Without a limit of depth nothing depends on it.
        """
        while nearer and self.config.max_depth is not None:
            entry = nearer.pop()
            if entry.redirect_to:
                found = Found(
                    entry.redirect_to,
                    entry.depth,
                    entry.found_order,
                    entry.url,
                    entry.score,
                    entry.hops + 1,
                )
                nearer += self._offer([found], now)
                continue
            content = read.get(entry.url)
            if content is None:
                (content,) = await self._cache.stored(
                    [Page(entry.url, entry.content_hash or "", media_type=entry.media_type)]
                )
            nearer += self._offer(self._links(entry, content), now)

    async def _record(self, visits: list[_Visit], claimed: list[Entry]) -> None:
        """Write a turn down; only then is what it claims asked for, and what ended told."""
        changed = self._frontier.take_changed()
        bodies = [visit.body for visit in visits if visit.body]
        rows = [visit.read for visit in visits if visit.read]
        now = time.monotonic()
        if changed or now - self._recorded_at >= HEARTBEAT_S:
            await self._store.record(changed, self._frontier.pages, bodies, rows)
            self._recorded_at = now
        self._tasks.update(asyncio.create_task(self._visit(entry)) for entry in claimed)
        ended = [visit for visit in visits if visit.entry.state == "done"]
        self._ready.extend(crawled(visit.entry, visit.content) for visit in ended)

    async def _committed(self) -> None:
        """Wait until the last turn is durable."""
        if self._commit is not None:
            await self._commit

    def _normal(self, url: str) -> str | None:
        try:
            return normalize_url(url, drop=self.config.drop_parameters)
        except InvalidInputError:
            return None


def crawled(entry: Entry, content: PageContent | None) -> CrawledPage:
    """Return an entry that is done as its crawl yields it."""
    return CrawledPage(
        entry.url,
        entry.depth,
        entry.reason or Reason.CANCELLED,
        status=entry.status,
        parent=entry.parent,
        content=content,
        content_hash=entry.content_hash,
        duplicate_of=entry.duplicate_of,
        redirect_to=entry.redirect_to,
        attempts=entry.attempts,
    )
