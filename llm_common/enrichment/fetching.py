"""Pages for an enrichment: fetched politely, read off the event loop, each once."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..crawling import Fetched, Fetcher, PageContent, Reason
from ..crawling.addresses import Guard
from ..crawling.auto_fetcher import fetcher_named
from ..crawling.extractor import Page
from ..crawling.host_turns import HostTurns
from ..crawling.http_fetcher import HttpFetcher, Limits
from ..crawling.models import MOST_REDIRECTS
from ..crawling.page_cache import hash_of
from ..crawling.politeness import LONGEST_CRAWL_DELAY_S
from ..crawling.readers import Readers
from ..crawling.relevance import relevance
from ..crawling.robots import RobotsCache
from .entities import entity_lines
from .interfaces import WebCrawler
from .merging import domain_of
from .models import CrawlConfig, CrawlStrategy

KEPT_PAGES = 256
"""Pages that are kept for other rows: one directory serves many."""
AT_ONCE = 16
KEYWORDS = ("contact", "about", "profile", "biography", "member", "staff", "team", "directory")
"""What links are followed for, by `CrawlStrategy.SELECTIVE`."""

Answer = dict[str, Any]


class PageCrawler(WebCrawler):
    """Fetches by HTTP, or with a browser where a page needs one and the configuration lets it.

    robots.txt is kept to, private addresses are refused, and a host is asked once in
    `per_host_delay_s` seconds, or more rarely if its robots.txt wants so.

    Args:
        fetcher: used for all; None makes one, which `aclose` closes.
        guard: which addresses may be asked; public ones by default. Of fetchers made here.
        keywords: what links are followed for.
        turns: shared with other processes: a host is asked once in the pause by all of them.
    """

    def __init__(
        self,
        fetcher: Fetcher | None = None,
        *,
        guard: Guard | None = None,
        keywords: Sequence[str] = KEYWORDS,
        per_host_delay_s: float = 1.0,
        turns: HostTurns | None = None,
    ) -> None:
        self._given = fetcher
        self._shared = turns
        self._guard = guard
        self._keywords = tuple(keywords)
        self._delay_s = per_host_delay_s
        self._made: dict[tuple[bool, float], Fetcher] = {}
        self._robots: RobotsCache | None = None
        self._readers: Readers | None = None
        self._hosts: dict[str, _Turn] = {}
        self._pages: OrderedDict[tuple[str, bool], asyncio.Task[Answer]] = OrderedDict()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def crawl(self, urls: Sequence[str], config: CrawlConfig) -> list[Answer]:
        """Return a page for each URL, and for those that its links lead to; nothing is raised.

        A page that could not be had says why in ``reason``. Links are followed on the same
        registered domain, until `max_pages_per_row` pages are there.
        """
        once = list(dict.fromkeys(urls))
        pages = await asyncio.gather(*(self._page(url, config) for url in once))
        found = list(pages)
        waiting = [(1, page) for page in pages]
        seen = {*once, *(str(page["url"]) for page in pages)}
        while waiting and len(found) < config.max_pages_per_row:
            depth, page = waiting.pop(-1 if config.strategy is CrawlStrategy.DEPTH_FIRST else 0)
            if depth > config.max_depth:
                continue
            room = config.max_pages_per_row - len(found)
            links = [url for url in self._followed(page, config) if url not in seen][:room]
            seen.update(links)
            more = await asyncio.gather(*(self._page(url, config) for url in links))
            found += more
            waiting += [(depth + 1, one) for one in more]
        return found

    async def aclose(self) -> None:
        """Close connections and processes; a fetcher that was given is left open."""
        for task in self._pages.values():
            task.cancel()
        await asyncio.gather(*self._pages.values(), return_exceptions=True)
        self._pages.clear()
        if self._readers is not None:
            await self._readers.aclose()
        for fetcher in self._made.values():
            await fetcher.aclose()
        self._made.clear()

    def _followed(self, page: Mapping[str, Any], config: CrawlConfig) -> list[str]:
        """Return links of a page on its own domain, in the order of the strategy."""
        domain = domain_of(str(page["url"]))
        links = [link for link in page["links"] if domain_of(str(link["url"])) == domain]
        urls = [str(link["url"]) for link in links]
        if config.strategy is not CrawlStrategy.SELECTIVE:
            return urls
        fits = [relevance(str(link["url"]), str(link["text"]), self._keywords) for link in links]
        ranked = sorted(zip(fits, urls, strict=True), key=lambda one: -one[0])
        return [url for fit, url in ranked if fit > 0]

    async def _page(self, url: str, config: CrawlConfig) -> Answer:
        """Fetch a page, or wait for those who fetch it; a failure is not kept."""
        key = url, config.javascript_enabled
        task = self._pages.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(url, config))
            self._pages[key] = task
            while len(self._pages) > KEPT_PAGES and next(iter(self._pages.values())).done():
                self._pages.popitem(last=False)
        self._pages.move_to_end(key)
        kept = False
        try:
            page = await asyncio.shield(task)
            kept = page["reason"] == Reason.FETCHED
        finally:
            if task.done() and not kept and self._pages.get(key) is task:
                del self._pages[key]
        return dict(page)

    async def _fetch(self, url: str, config: CrawlConfig) -> Answer:
        fetcher = self._fetcher(config)
        async with self._room:
            fetched = await self._allowed(url, fetcher, config.timeout_seconds)
            if fetched.reason is not Reason.FETCHED:
                return _failed(url, fetched)
            content, lines = await self._read(fetched)
        return page_of(url, content, lines)

    async def _allowed(self, url: str, fetcher: Fetcher, timeout_s: float) -> Fetched:
        """Follow redirects one by one, each if its own site's robots.txt lets it."""
        target = url
        for _ in range(MOST_REDIRECTS):
            if self._robots is None:
                self._robots = RobotsCache(self._plain(timeout_s))
            try:
                async with asyncio.timeout(timeout_s):
                    rules = await self._robots.rules_for(target)
            except (TimeoutError, ValueError) as error:
                slow = isinstance(error, TimeoutError)
                return Fetched(url, target, Reason.TIMEOUT if slow else Reason.INVALID_URL)
            if refusal := rules.refusal(target):
                return Fetched(url, target, refusal)
            await self._turn(target, rules.crawl_delay())
            try:
                async with asyncio.timeout(timeout_s):
                    fetched = await fetcher.fetch(target, hops=0)
            except TimeoutError:
                return Fetched(url, target, Reason.TIMEOUT)
            if fetched.reason is not Reason.REDIRECTED or not fetched.redirect_to:
                return fetched
            target = fetched.redirect_to
        return Fetched(url, target, Reason.REDIRECT_LOOP)

    async def _turn(self, url: str, crawl_delay_s: float | None) -> None:
        """Wait until the host may be asked again."""
        host = urlsplit(url).netloc.lower()
        pause_s = max(self._delay_s, min(crawl_delay_s or 0.0, LONGEST_CRAWL_DELAY_S))
        if self._shared is not None:
            return await self._shared.wait(host, pause_s)
        wait_s = self._hosts.setdefault(host, _Turn()).take(pause_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        return None

    async def _read(self, fetched: Fetched) -> tuple[PageContent, list[str]]:
        if self._readers is None:
            self._readers = Readers()
        body, media_type = fetched.body, fetched.headers.get("content-type")
        content, _ = await self._readers.read(
            Page(fetched.final_url, hash_of(body), body, media_type)
        )
        if content.reason is not Reason.FETCHED:
            return content, []
        return content, await asyncio.to_thread(entity_lines, body)

    def _fetcher(self, config: CrawlConfig) -> Fetcher:
        if self._given is not None or not config.javascript_enabled:
            return self._plain(config.timeout_seconds)
        key = True, config.timeout_seconds
        if key not in self._made:
            self._made[key] = fetcher_named("auto", self._guard)
        return self._made[key]

    def _plain(self, timeout_s: float) -> Fetcher:
        if self._given is not None:
            return self._given
        key = False, timeout_s
        if key not in self._made:
            self._made[key] = HttpFetcher(self._guard, limits=Limits(timeout_s=timeout_s))
        return self._made[key]


class _Turn:
    """When a host may be asked next."""

    def __init__(self) -> None:
        self._next_at = 0.0

    def take(self, delay_s: float) -> float:
        """Take the next turn; return the seconds until it comes."""
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + delay_s
        return at - now


def page_of(url: str, content: PageContent, lines: Sequence[str] = ()) -> Answer:
    """Return a page as it passes through the seams.

    Args:
        url: as it was asked for; a redirect leads elsewhere.
        lines: what the page's structured data says, with names: see `entities`.
    """
    return {
        "url": content.url or url,
        "requested_url": url,
        "title": content.title,
        "text": content.markdown or content.text,
        "full_text": "\n".join(filter(None, (content.text, *lines))),
        "dated": content.modified or content.published,
        "links": [{"url": link.url, "text": link.text} for link in content.links],
        "reason": str(content.reason),
    }


def _failed(url: str, fetched: Fetched) -> Answer:
    empty = PageContent(url=fetched.final_url, reason=fetched.reason)
    return page_of(url, empty)
