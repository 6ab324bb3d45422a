"""A section whose pages and links scripts write, crawled through a real browser."""

from __future__ import annotations

import pytest

from llm_common.crawling import CrawlConfig, Reason, crawl
from llm_common.crawling.auto_fetcher import fetcher_named
from llm_common.crawling.chromium import executable
from llm_common.crawling.http_fetcher import HttpFetcher
from tests.support import skip_or_fail

from .site import APP_PAGES, big_site
from .web import LOOPBACK

pytestmark = pytest.mark.web


@pytest.mark.parametrize("name", ["auto", "browser"])
async def test_a_section_of_scripts(database_url: str, name: str) -> None:
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    fetcher, plain = fetcher_named(name, LOOPBACK), HttpFetcher(LOOPBACK)
    config = CrawlConfig(per_host_delay_s=0, include=("/app/",), max_pages=100)
    async with big_site(10) as site:
        start = [f"{site.url}/app/0", f"{site.url}/private/1"]
        async with crawl(start, config, fetcher=fetcher, plain=plain, db=database_url) as going:
            pages = {page.url.removeprefix(site.url): page async for page in going}
    await fetcher.aclose()
    await plain.aclose()
    shown = {path: page for path, page in pages.items() if page.reason is Reason.FETCHED}
    assert set(shown) == {f"/app/{n}" for n in range(APP_PAGES)}
    assert all(page.content and "Made by a script." in page.content.text for page in shown.values())
    assert {page.depth for page in shown.values()} == set(range(APP_PAGES))
    # robots.txt is read by HTTP, whoever shows the pages.
    assert pages["/private/1"].reason is Reason.ROBOTS_DISALLOWED
    assert site.asked["/private/1"] == 0
