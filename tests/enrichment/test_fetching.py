"""Pages over real HTTP: politely, each once, and a failure is a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from llm_common.crawling import PageContent
from llm_common.enrichment.entities import entity_lines
from llm_common.enrichment.fetching import PageCrawler, page_of
from llm_common.enrichment.models import CrawlConfig, CrawlStrategy
from tests.crawling.web import LOOPBACK, Site, page, site

HOME = """<html><head><title>Kern Tools</title><meta property="article:modified_time"
content="2026-01-02"></head><body><h1>Kern Tools</h1><p>We sell hammers and tongs.</p>
<a href="/news">News</a> <a href="/contact">Contact us</a> <a href="https://else.org/contact">x</a>
<footer><a href="tel:+19163192002">Call</a></footer>
<script type="application/ld+json">{"name": "Jane Doe", "telephone": "916-319-2001"}
</script></body></html>"""


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(600)
    return web.Response(text="late")


async def moved(request: web.Request) -> web.Response:
    raise web.HTTPFound("/contact")


async def away(request: web.Request) -> web.Response:
    raise web.HTTPFound("/private/x")


@pytest.fixture
async def kern() -> AsyncIterator[Site]:
    pages = {
        "/": page(HOME),
        "/contact": page(
            "<title>Contact</title><p>Call 916-319-2002.</p><a href='/staff'>Staff</a>"
        ),
        "/news": page("<title>News</title><p>Nothing new.</p>"),
        "/staff": page("<title>Staff</title><p>Jane Doe runs the shop.</p>"),
        "/robots.txt": page("User-agent: *\nDisallow: /private/", Content_Type="text/plain"),
        "/private/x": page("<p>secret</p>"),
        "/slow": slow,
        "/moved": moved,
        "/away": away,
        "/photo": page(b"\x89PNG\r\n\x1a\n", Content_Type="image/png"),
    }
    async with site(pages) as served:
        yield served


@pytest.fixture
async def crawler() -> AsyncIterator[PageCrawler]:
    made = PageCrawler(guard=LOOPBACK, per_host_delay_s=0)
    yield made
    await made.aclose()


async def test_a_page_as_it_passes_through_the_seams(kern: Site, crawler: PageCrawler) -> None:
    (found,) = await crawler.crawl([f"{kern.url}/"], CrawlConfig())
    assert found["reason"] == "fetched"
    assert (found["url"], found["title"]) == (f"{kern.url}/", "Kern Tools")
    assert "hammers" in found["text"]
    assert "tel: +19163192002" in found["full_text"]
    assert "Jane Doe | telephone: 916-319-2001" in found["full_text"]
    assert found["dated"] == "2026-01-02"
    assert {"url": f"{kern.url}/contact", "text": "Contact us"} in found["links"]


async def test_failures_are_reasons(kern: Site, crawler: PageCrawler) -> None:
    paths = ("/missing", "/private/x", "/away", "/photo", "/moved")
    urls = [*(kern.url + path for path in paths), "http://10.0.0.1/", "no url", "http://[x"]
    found = await crawler.crawl(urls, CrawlConfig())
    reasons = {page["requested_url"]: page["reason"] for page in found}
    assert [reasons[url] for url in urls] == [
        "not_found", "robots_disallowed", "robots_disallowed", "unsupported_type",
        "fetched", "private_address", "invalid_url", "invalid_url",
    ]  # fmt: skip
    assert kern.asked["/private/x"] == 0
    assert found[4]["url"] == f"{kern.url}/contact"
    found += await crawler.crawl([f"{kern.url}/slow"], CrawlConfig(timeout_seconds=0.5))
    assert found[-1]["reason"] == "timeout"
    assert all(page["text"] == "" for page in found if page["reason"] != "fetched")


async def test_loopback_is_closed_by_default(kern: Site) -> None:
    crawler = PageCrawler()
    (found,) = await crawler.crawl([f"{kern.url}/"], CrawlConfig())
    await crawler.aclose()
    assert found["reason"] == "private_address"
    assert not kern.asked


async def test_links_are_followed_by_strategy(kern: Site, crawler: PageCrawler) -> None:
    async def paths(depth: int, strategy: CrawlStrategy, most: int = 9) -> list[str]:
        config = CrawlConfig(max_depth=depth, strategy=strategy, max_pages_per_row=most)
        found = await crawler.crawl([f"{kern.url}/"], config)
        return [page["url"].removeprefix(kern.url) for page in found]

    assert await paths(0, CrawlStrategy.BREADTH_FIRST) == ["/"]
    assert await paths(1, CrawlStrategy.SELECTIVE) == ["/", "/contact"]
    assert await paths(2, CrawlStrategy.SELECTIVE) == ["/", "/contact", "/staff"]
    assert await paths(2, CrawlStrategy.BREADTH_FIRST) == ["/", "/news", "/contact", "/staff"]
    assert await paths(2, CrawlStrategy.DEPTH_FIRST, 2) == ["/", "/news"]


async def test_a_page_is_fetched_once_for_all_rows(kern: Site, crawler: PageCrawler) -> None:
    urls = [f"{kern.url}/", f"{kern.url}/missing"]
    await asyncio.gather(*(crawler.crawl(urls, CrawlConfig()) for _ in range(5)))
    again = await crawler.crawl(urls, CrawlConfig())
    assert kern.asked["/"] == 1
    assert kern.asked["/robots.txt"] == 1
    # A failure is not kept: those who come later try again.
    assert kern.asked["/missing"] == 2
    again[0]["title"] = "changed by its user"
    assert (await crawler.crawl(urls, CrawlConfig()))[0]["title"] == "Kern Tools"


async def test_a_caller_who_leaves_does_not_take_the_page_from_others(
    kern: Site, crawler: PageCrawler
) -> None:
    leaving = asyncio.create_task(crawler.crawl([f"{kern.url}/"], CrawlConfig()))
    staying = asyncio.create_task(crawler.crawl([f"{kern.url}/"], CrawlConfig()))
    await asyncio.sleep(0)
    leaving.cancel()
    (found,) = await staying
    assert found["reason"] == "fetched"
    assert kern.asked["/"] == 1


def test_facts_of_machines_keep_their_names() -> None:
    html = b"""<script type="application/ld+json">{"@graph": [
      {"@type": "Person", "name": "John Smith", "email": "mailto:j@x.org",
       "address": {"addressRegion": "CA"}, "worksFor": {"name": "Assembly", "telephone": "1"}},
      {"@type": "Person", "telephone": "2"}, {"name": "Nothing"}]}</script>"""
    assert entity_lines(html) == [
        "John Smith | email: j@x.org | address region: CA",
        "Assembly | telephone: 1",
    ]
    assert entity_lines(b"<p>plain") == []
    assert entity_lines(b'<script type="application/ld+json">' + b"[" * 100_000) == []


def test_a_page_without_prose_shows_its_text() -> None:
    content = PageContent(url="https://x.org/", text="name: John Smith")
    assert page_of("https://x.org/", content)["text"] == "name: John Smith"
