"""A crawl that is killed again and again loses no page, and asks for none whose result it has."""

from __future__ import annotations

import random
from uuid import uuid4

import pytest

from tests import children
from tests.servers import fetch

from .site import big_site

pytestmark = pytest.mark.web

NUMBER = 2_000
KILLS = 10

CRAWLER = """
import asyncio, os
from llm_common.crawling import CrawlConfig, crawl
from llm_common.crawling.addresses import guard
from llm_common.crawling.http_fetcher import HttpFetcher

async def main():
    fetcher = HttpFetcher(guard(["127.0.0.0/8"]))
    told = CrawlConfig(max_pages=10_000, per_host_delay_s=0, per_host_concurrency=8, concurrency=8,
                       max_alike=5, retries=1)
    where = {"db": os.environ["CRAWL_DATABASE"], "crawl_id": os.environ["CRAWL_ID"]}
    async with crawl(os.environ["CRAWL_URL"], told, fetcher=fetcher, **where) as going:
        async for page in going:
            pass
    await fetcher.aclose()
    print(going.pages)

asyncio.run(main())
"""


async def test_ten_kills_lose_nothing_and_repeat_nothing(database_url: str) -> None:
    chance = random.Random(7)
    crawl_id = str(uuid4())
    done = f"SELECT url FROM llm_crawl_urls WHERE crawl_id = '{crawl_id}' AND state = 'done'"
    async with big_site(NUMBER) as site:
        environment = {
            "CRAWL_URL": f"{site.url}/",
            "CRAWL_ID": crawl_id,
            "CRAWL_DATABASE": database_url,
        }

        def path(url: str) -> str:
            return url.removeprefix(site.url)

        for _ in range(KILLS):
            point = site.asked.total() + chance.randint(1, 150)
            async with children.killed(CRAWLER, **environment):
                await children.until(lambda point=point: site.asked.total() >= point)
            kept = {path(url): site.asked[path(url)] for (url,) in fetch(database_url, done)}
        pages = int(await children.run(CRAWLER, **environment))
        # What was stored when it was killed for the last time was asked for no more.
        assert {p: site.asked[p] for p in kept} == kept
        rows = fetch(
            database_url,
            "SELECT url, attempts, interruptions, state, content_hash IS NOT NULL"
            f" FROM llm_crawl_urls WHERE crawl_id = '{crawl_id}' AND attempts > 0",
        )
    assert {state for *_, state, _ in rows} == {"done"}
    assert site.plain <= {path(url) for url, *_, has_page in rows if has_page}
    assert pages == sum(has_page for *_, has_page in rows)
    for url, attempts, interruptions, *_ in rows:
        if "/private/" not in url:
            assert attempts <= site.asked[path(url)] <= attempts + interruptions, url
    assert sum(interruptions for _, _, interruptions, *_ in rows) <= KILLS * 8
