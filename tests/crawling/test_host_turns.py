"""A host is visited once in a pause, by however many processes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web

from llm_common.crawling.host_turns import HostTurns
from llm_common.errors import SchemaError
from tests import children

PAUSE_S, EACH = 0.25, 6
VISIT = """
import asyncio, ipaddress, os
from llm_common.crawling.host_turns import HostTurns
from llm_common.database import connect
from llm_common.crawling.http_fetcher import HttpFetcher
from llm_common.crawling.addresses import Guard
from llm_common.enrichment.fetching import PageCrawler
from llm_common.enrichment.models import CrawlConfig

async def main():
    turns = HostTurns(connect(os.environ["DATABASE_URL"]))
    guard = Guard((ipaddress.ip_network("127.0.0.0/8"),))
    crawler = PageCrawler(guard=guard, per_host_delay_s=0.25, turns=turns)
    urls = [os.environ["SITE"] + f"/{os.getpid()}/{n}" for n in range(6)]
    pages = await crawler.crawl(urls, CrawlConfig(max_pages_per_row=6, max_depth=0))
    await crawler.aclose()
    print(*{page["reason"] for page in pages})

asyncio.run(main())
"""


async def test_two_processes_take_turns(database_url: str) -> None:
    visits: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            raise web.HTTPNotFound
        visits.append(time.time())
        text = "<html><title>A page</title><body><p>Some words of a page.</p></body></html>"
        return web.Response(text=text, content_type="text/html")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        environment = {"DATABASE_URL": database_url, "SITE": f"http://127.0.0.1:{port}"}
        began = time.time()
        ended = await asyncio.gather(*(children.run(VISIT, **environment) for _ in range(2)))
    finally:
        await runner.cleanup()
    assert ended == ["fetched", "fetched"]
    assert len(visits) == 2 * EACH
    # Nobody wakes before the turn: the n-th visit is at least n pauses after the start.
    early = [at for n, at in enumerate(sorted(visits)) if at < began + n * PAUSE_S - 0.01]
    assert early == []


async def test_hosts_do_not_wait_for_each_other_and_names_have_no_case(db: Any) -> None:
    turns = HostTurns(db)
    await asyncio.gather(*(turns.wait(f"{n}.example", 3600) for n in range(5)))
    taken = await db.call("llm_host_turn", {"host": "1.example", "pause_s": 1})
    assert 3500 < taken["wait_s"] <= 3600
    await turns.wait("A.example", 3600)
    assert (await db.call("llm_host_turn", {"host": "a.example", "pause_s": 1}))["wait_s"] > 3500


async def test_without_a_database_nobody_visits(empty_url: str) -> None:
    from llm_common.database import connect

    with pytest.raises(SchemaError):
        await HostTurns(connect(empty_url)).wait("a.example", 1)
