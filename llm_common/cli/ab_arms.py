"""The two arms of `llm-common crawl ab`: plain HTTP with our reader, and crawl4ai."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..crawling import Reason, read_page
from ..crawling.addresses import Guard
from ..crawling.browser_fetcher import BrowserFetcher
from ..crawling.http_fetcher import HttpFetcher
from ..extras import require
from ..telemetry import event

OURS = ("http, full text", "http, markdown")
THEIRS = ("crawl4ai, raw markdown", "crawl4ai, fit markdown")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one arm made of one page.

    Attributes:
        seconds: to fetch and read it; of the two texts of an arm, for both together.
    """

    arm: str
    page: str
    text: str
    seconds: float


async def by_http(fetcher: HttpFetcher, page: str, url: str) -> tuple[list[Reading], int]:
    """Fetch by HTTP and read; return both texts and the number of bytes of the page."""
    began = time.perf_counter()
    fetched = await fetcher.fetch(url)
    content = read_page(fetched)
    seconds = time.perf_counter() - began
    if content.reason is not Reason.FETCHED:
        event("ab.no_text", level=logging.WARNING, arm="http", reason=content.reason)
    texts = (content.text, content.markdown)
    readings = [Reading(arm, page, text, seconds) for arm, text in zip(OURS, texts, strict=True)]
    return readings, len(fetched.body)


async def by_crawl4ai(crawler: Any, page: str, url: str) -> list[Reading]:
    """Let crawl4ai show the page and make its two Markdowns; a failure is two empty texts."""
    crawl4ai = require("crawl4ai", "crawl")
    filters = require("crawl4ai.content_filter_strategy", "crawl")
    config = crawl4ai.CrawlerRunConfig(
        cache_mode=crawl4ai.CacheMode.BYPASS,
        markdown_generator=crawl4ai.DefaultMarkdownGenerator(
            content_filter=filters.PruningContentFilter()
        ),
        delay_before_return_html=0,
        verbose=False,
        shared_data={},
    )
    began = time.perf_counter()
    result = await crawler.arun(url, config=config)
    seconds = time.perf_counter() - began
    made = result.markdown if result.success else None
    if made is None:
        event("ab.no_text", level=logging.WARNING, arm="crawl4ai", status=result.status_code)
    texts = (made.raw_markdown, made.fit_markdown) if made else ("", "")
    return [
        Reading(arm, page, text or "", seconds) for arm, text in zip(THEIRS, texts, strict=True)
    ]


@asynccontextmanager
async def crawl4ai_browser(guard: Guard) -> AsyncGenerator[Any]:
    """Run crawl4ai's own crawler on a browser that reaches allowed addresses only."""
    fetcher = BrowserFetcher(guard)
    try:
        browser = await fetcher.browser()
        crawler = require("crawl4ai", "crawl").AsyncWebCrawler(crawler_strategy=browser.strategy)
        crawler.ready = True
        yield crawler
    finally:
        await fetcher.aclose()


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[str]:
    """Serve the files of a folder on loopback; return the URL that they stand below."""
    from aiohttp import web

    app = web.Application()
    app.router.add_get("/{name:.+}", _file(folder))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def url_of(base: str, page: str) -> str:
    """Return where a page of the served folder is."""
    return base + quote(page)


def _file(folder: Path) -> Any:
    from aiohttp import web

    folder = folder.resolve()

    async def answer(request: web.Request) -> web.Response:
        file = (folder / request.match_info["name"]).resolve()
        if not (file.is_relative_to(folder) and file.is_file()):
            return web.Response(status=404)
        kind = "application/pdf" if file.suffix == ".pdf" else "text/html"
        return web.Response(body=file.read_bytes(), headers={"Content-Type": kind})

    return answer
