"""robots.txt: real files, answers of all kinds, and what is kept."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from llm_common.crawling import Fetched, Reason
from llm_common.crawling.http_fetcher import HttpFetcher
from llm_common.crawling.robots import RobotsCache, parse_robots, robots_of
from tests.support import data_dir

from .web import page, redirect, site

AGENTS = ("llm-common", "llm-common/0.1", "Googlebot", "bingbot", "*", "GPTBot", "Mozilla/5.0", "")
PATHS = (
    "/", "/index.html", "/search", "/search?q=rent", "/admin/", "/cgi-bin/x", "/a/b/c.pdf",
    "/wp-admin/", "/wp-admin/admin-ajax.php", "/node/1", "/user/login", "/*.gif", "/caf%C3%A9",
    "/café",
    "/private/x", "/api/v1", "/print/", "/tag/a?page=2", "/robots.txt", "/$",
    "/images/a.jpg", "/checkout",
)  # fmt: skip


def test_real_files_are_read_as_protego_reads_them() -> None:
    files = sorted(data_dir("robots").iterdir())
    assert len(files) == 282
    answers = 0
    for file in files:
        body = file.read_bytes()
        ours, theirs = parse_robots(body), Protego.parse(body.decode("utf-8-sig", "replace"))
        for agent in AGENTS:
            assert ours.crawl_delay(agent) == theirs.crawl_delay(agent)
            for path in PATHS:
                url = f"https://{file.name}{path}"
                assert ours.allows(url, agent) == theirs.can_fetch(url, agent)
                answers += 1
        assert ours.sitemaps == list(theirs.sitemaps)
    assert answers == 282 * len(AGENTS) * len(PATHS)


@given(st.binary(max_size=300))
def test_no_bytes_raise(body: bytes) -> None:
    robots = parse_robots(body)
    robots.allows("https://host/path")
    robots.crawl_delay()
    assert isinstance(robots.sitemaps, list)


@pytest.mark.parametrize(
    ("reason", "status", "refusal"),
    [
        (Reason.NOT_FOUND, 404, None),
        (Reason.REFUSED, 403, None),
        (Reason.EMPTY, 200, None),
        (Reason.UNSUPPORTED_TYPE, 200, None),
        (Reason.PRIVATE_ADDRESS, None, None),
        (Reason.RATE_LIMITED, 429, Reason.RATE_LIMITED),
        (Reason.SERVER_ERROR, 503, Reason.SERVER_ERROR),
        (Reason.TIMEOUT, None, Reason.TIMEOUT),
        (Reason.UNREACHABLE, None, Reason.UNREACHABLE),
    ],
)
def test_what_is_no_file_allows_all_or_nothing(
    reason: Reason, status: int | None, refusal: Reason | None
) -> None:
    robots = robots_of(Fetched("u", "u", reason, status))
    assert robots.refusal("https://host/") is refusal
    assert robots.allows("https://host/") == (refusal is None)
    assert robots.crawl_delay() is None
    assert robots.sitemaps == []


async def test_one_request_for_each_origin(fetcher: HttpFetcher) -> None:
    rules = "User-agent: *\nDisallow: /no\nCrawl-delay: 2\nSitemap: /s.xml"
    cache = RobotsCache(fetcher)
    async with site({"/robots.txt": redirect("/r"), "/r": page(rules)}) as served:
        found = await asyncio.gather(*(cache.rules_for(f"{served.url}/{n}") for n in range(20)))
    assert served.asked == {"/robots.txt": 1, "/r": 1}
    assert {id(robots) for robots in found} == {id(found[0])}
    assert found[0].refusal(f"{served.url}/no/x") is Reason.ROBOTS_DISALLOWED
    assert found[0].refusal(f"{served.url}/yes") is None
    assert found[0].crawl_delay() == 2.0


async def test_a_caller_who_leaves_does_not_take_the_others_along(
    fetcher: HttpFetcher,
) -> None:
    cache = RobotsCache(fetcher)
    go_on = asyncio.Event()

    async def slow(request: object) -> object:
        await go_on.wait()
        return await page("User-agent: *\nDisallow: /")(request)  # type: ignore[arg-type]

    async with site({"/robots.txt": slow}) as served:  # type: ignore[dict-item]
        first = asyncio.create_task(cache.rules_for(served.url))
        second = asyncio.create_task(cache.rules_for(served.url))
        await asyncio.sleep(0.05)
        first.cancel()
        go_on.set()
        assert not (await second).allows(f"{served.url}/")
    assert served.asked == {"/robots.txt": 1}
