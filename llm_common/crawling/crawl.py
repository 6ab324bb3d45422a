"""Crawls that are begun and taken up, and what is stored of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Unpack
from uuid import uuid4

from .. import settings
from ..database import Database, connect
from ..errors import InvalidInputError
from ..types import Where
from .config import CrawlConfig
from .extractor import EXTRACTOR, Extractor, Page
from .frontier import Entry, Frontier
from .http_fetcher import HttpFetcher
from .models import Fetcher, Reason
from .page_cache import PAGES_AT_ONCE, PageCache
from .scope import scope_of
from .store import CrawlStore, find_crawls, open_crawl, stored_entries
from .turns import Crawl, CrawledPage, crawled
from .urls import normalize_url


@dataclass(frozen=True, slots=True)
class CrawlSummary:
    """How a crawl stands.

    Attributes:
        state: ``running``, ``stopped`` or ``completed``.
        pages: URLs that answered with a document.
        queued: URLs that are known and not done.
        attempts: visits that ended, retries included.
        interruptions: visits that a kill or a stop cut off; they were made again, or will be.
        reasons: how many URLs are done, by reason.
    """

    id: str
    state: str
    seeds: tuple[str, ...]
    pages: int
    queued: int
    attempts: int
    interruptions: int
    reasons: dict[Reason, int] = field(default_factory=dict[Reason, int])


@asynccontextmanager
async def crawl(
    seeds: str | Sequence[str],
    config: CrawlConfig | None = None,
    *,
    fetcher: Fetcher | None = None,
    plain: Fetcher | None = None,
    extractor: Extractor = EXTRACTOR,
    crawl_id: str | None = None,
    **where: Unpack[Where],
) -> AsyncGenerator[Crawl]:
    """Crawl from one URL or several; iterate over what is entered for the pages.

    Leaving before the end keeps what was done; `resume` goes on from there.

    Args:
        fetcher: plain HTTP to public addresses by default; it is left open, the default is not.
        plain: reads robots.txt and sitemaps, which a browser would show as pages; `fetcher` by
            default.
        crawl_id: a UUID of the caller's; the same one goes on with the same crawl, as `resume`.
        where: `db` and `project`; a crawl needs a Postgres URL.

    Raises:
        InvalidInputError: a seed is no URL.
        RunBusyError: a living process is at this crawl.
        FencedError: another process took it over.
    """
    config = config or CrawlConfig()
    given = [seeds] if isinstance(seeds, str) else seeds
    normal = [normalize_url(seed, drop=config.drop_parameters) for seed in given]
    if not normal:
        raise InvalidInputError("a crawl needs a URL to start from")
    once = list(dict.fromkeys(normal))
    async with _connected(where) as (db, project):
        store = await open_crawl(db, project, crawl_id or str(uuid4()), seeds=once, config=config)
        async with _crawling(db, store, (fetcher, plain), extractor) as crawling:
            yield crawling


@asynccontextmanager
async def resume(
    crawl_id: str,
    *,
    max_pages: int | None = None,
    fetcher: Fetcher | None = None,
    plain: Fetcher | None = None,
    extractor: Extractor = EXTRACTOR,
    **where: Unpack[Where],
) -> AsyncGenerator[Crawl]:
    """Go on with a crawl: no page is lost, and none whose result is stored is fetched again.

    Args:
        max_pages: a new limit, pages of before included; the stored one by default.

    Raises:
        InvalidInputError: the project has no such crawl.
        RunBusyError: a living process is at it.
        FencedError: another process took it over.
    """
    async with _connected(where) as (db, project):
        store = await open_crawl(db, project, crawl_id, max_pages=max_pages)
        async with _crawling(db, store, (fetcher, plain), extractor) as crawling:
            yield crawling


async def summary_of(crawl_id: str, **where: Unpack[Where]) -> CrawlSummary:
    """Return how a crawl stands.

    Raises:
        InvalidInputError: the project has no such crawl.
    """
    async with _connected(where) as (db, project):
        return _summary(await _found(db, project, crawl_id))


async def stored_pages(
    crawl_id: str, *, extractor: Extractor = EXTRACTOR, **where: Unpack[Where]
) -> AsyncGenerator[CrawledPage]:
    """Yield every URL of a crawl that was asked for, with what its page says; fetch nothing.

    The order means nothing. What the extractor has not read yet is read now, and kept.
    """
    async with _connected(where) as (db, project):
        found = await _found(db, project, crawl_id)
        cache = PageCache(db, extractor)
        try:
            batch: list[Entry] = []
            async for entry in stored_entries(db, found["id"]):
                if entry.state == "done" and entry.attempts:
                    batch.append(entry)
                if len(batch) == PAGES_AT_ONCE:
                    for page in await _with_contents(cache, batch):
                        yield page
                    batch.clear()
            for page in await _with_contents(cache, batch):
                yield page
        finally:
            await cache.aclose()


async def _found(db: Database, project: str, crawl_id: str) -> dict[str, Any]:
    found = await find_crawls(db, project, crawl_id=crawl_id)
    if not found:
        raise InvalidInputError(f"project {project} has no crawl {crawl_id}")
    if len(found) > 1:
        raise InvalidInputError(f"several crawls of project {project} begin with {crawl_id}")
    return found[0]


async def _with_contents(cache: PageCache, entries: Sequence[Entry]) -> list[CrawledPage]:
    pages = [
        Page(entry.url, entry.content_hash, media_type=entry.media_type)
        for entry in entries
        if entry.content_hash
    ]
    contents = await cache.stored(pages) if pages else []
    read = {page.url: content for page, content in zip(pages, contents, strict=True)}
    return [crawled(entry, read.get(entry.url)) for entry in entries]


def _summary(row: dict[str, Any]) -> CrawlSummary:
    return CrawlSummary(
        row["id"],
        row["state"],
        tuple(row["seeds"]),
        row["pages"],
        row["queued"],
        row["attempts"],
        row["interruptions"],
        {Reason(reason): number for reason, number in row["reasons"].items()},
    )


@asynccontextmanager
async def _connected(where: Where) -> AsyncGenerator[tuple[Database, str]]:
    """Connect to what the caller named; a `Database` of the caller's is left open."""
    project = settings.project(where.get("project"))
    given = {name: where.get(name) for name in ("db", "db_client", "supabase_client")}
    db = connect(**given)
    try:
        yield db, project
    finally:
        if db not in given.values():
            await db.aclose()


@asynccontextmanager
async def _crawling(
    db: Database,
    store: CrawlStore,
    fetchers: tuple[Fetcher | None, Fetcher | None],
    extractor: Extractor,
) -> AsyncGenerator[Crawl]:
    fetcher, plain = fetchers
    used = fetcher or HttpFetcher()
    opened = store.crawl
    frontier = Frontier(opened.config, scope_of(opened.seeds, opened.config))
    crawling = Crawl(store, frontier, PageCache(db, extractor), used, plain or used)
    try:
        known = await store.load()
        if known:
            frontier.restore(known, time.time())
        else:
            await crawling.seed()
        yield crawling
    finally:
        await crawling.aclose()
        if fetcher is None:
            await used.aclose()
