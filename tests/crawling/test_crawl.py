"""A crawl of a whole site: every page once and nothing else, limits exact, resumed without loss."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp.web
import pytest

from llm_common.crawling import (
    Crawl,
    CrawlConfig,
    CrawledPage,
    Extractor,
    Reason,
    crawl,
    extract,
    resume,
    stored_pages,
    summary_of,
)
from llm_common.crawling.http_fetcher import HttpFetcher, Limits
from llm_common.errors import FencedError, InvalidInputError, RunBusyError
from tests.servers import execute, fetch

from . import web
from .site import CHAIN, HIDDEN_PAGES, BigSite, big_site, depth_of

NUMBER = 150
ALIKE = 6
FAST = {"per_host_delay_s": 0, "per_host_concurrency": 16, "max_pages": 10_000, "retries": 1}


def config(**more: Any) -> CrawlConfig:
    return CrawlConfig.model_validate({**FAST, "max_alike": ALIKE, **more})


@pytest.fixture
async def fetcher() -> AsyncIterator[HttpFetcher]:
    made = HttpFetcher(web.LOOPBACK)
    yield made
    await made.aclose()


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[BigSite]:
    async with big_site(getattr(request, "param", NUMBER)) as running:
        yield running


@pytest.fixture
def crawling(fetcher: HttpFetcher, database_url: str):
    """Begin a crawl in the test's own database."""

    @asynccontextmanager
    async def begin(url: str, told: CrawlConfig, **more: Any) -> AsyncIterator[Crawl]:
        async with crawl(url, told, fetcher=fetcher, db=database_url, **more) as going:
            yield going

    return begin


async def all_of(going: Crawl) -> list[CrawledPage]:
    return [page async for page in going]


def paths(site: BigSite, pages: list[CrawledPage], *reasons: Reason) -> list[str]:
    return [p.url.removeprefix(site.url) for p in pages if p.reason in reasons]


@pytest.mark.parametrize(
    "site", [NUMBER, pytest.param(2_000, marks=pytest.mark.web)], indirect=True
)
async def test_every_page_once_and_nothing_else(crawling, site: BigSite, database_url: str) -> None:
    async with crawling(f"{site.url}/", config()) as going:
        pages = await all_of(going)
    fetched = set(paths(site, pages, Reason.FETCHED, Reason.EMPTY))
    traps = {p for p in fetched if p.startswith(("/calendar", "/search", "/maze"))}
    assert fetched - traps == site.plain
    assert Counter(p.split("/")[1].split("?")[0] for p in traps) == {
        "calendar": ALIKE,
        "search": ALIKE,
        # /maze/a/b, and once more; then a and b come too often.
        "maze": 3,
    }
    assert len(pages) == len({page.url for page in pages})
    # Nothing was asked that is not told, and nothing twice but for what failed in passing.
    twice = {path for path, number in site.asked.items() if number > 1}
    assert twice == {"/broken/500", "/broken/later", "/broken/cut"}
    told = {p.url.removeprefix(site.url) for p in pages if p.reason is not Reason.ROBOTS_DISALLOWED}
    assert set(site.asked) == told | {"/robots.txt"}
    ends = {p.url.removeprefix(site.url): p.reason for p in pages}
    assert ends["/private/1"] is Reason.ROBOTS_DISALLOWED
    assert ends["/broken/500"] is Reason.SERVER_ERROR
    assert ends["/broken/cut"] is Reason.BROKEN_ANSWER
    assert ends["/broken/missing"] is Reason.NOT_FOUND
    assert {ends["/loop/a"], ends["/loop/b"]} == {Reason.REDIRECTED, Reason.REDIRECT_LOOP}
    assert ends["/self"] is Reason.REDIRECT_LOOP
    assert [ends[f"/chain/{n}"] for n in range(CHAIN + 1)] == [Reason.REDIRECTED] * (CHAIN + 1)
    assert fetch(
        database_url, "SELECT url, parent, reason FROM llm_crawl_urls WHERE host LIKE 'elsewhere%'"
    ) == [("http://elsewhere.invalid/", f"{site.url}/away", "out_of_scope")]
    summary = await summary_of(going.id, db=database_url)
    assert (summary.state, summary.pages, summary.queued) == ("completed", len(fetched), 0)
    assert summary.attempts == len(pages) + len(twice)
    assert summary.reasons[Reason.OVER_LIMIT] == 2


async def test_pages_say_where_they_come_from(crawling, site: BigSite) -> None:
    async with crawling(f"{site.url}/", config()) as going:
        pages = {p.url.removeprefix(site.url): p for p in await all_of(going)}
    page = pages["/page/3"]
    assert page.parent == f"{site.url}/page/0"
    assert page.content
    assert page.content.title == "Page 3"
    assert "Page 3:" in page.content.markdown
    # What a redirect leads to is as near as the redirect.
    assert pages["/page/7"].parent == f"{site.url}/go/7"
    assert {n: pages[f"/page/{n}"].depth for n in range(NUMBER)} == {
        n: depth_of(n) for n in range(NUMBER)
    }


@pytest.mark.parametrize("most", [1, 2, 17, 100])
@pytest.mark.parametrize("concurrency", [1, 16])
async def test_max_pages_is_exact(
    crawling, site: BigSite, database_url: str, most: int, concurrency: int
) -> None:
    told = config(max_pages=most, concurrency=concurrency, exclude=("/broken/later",), retries=0)
    async with crawling(f"{site.url}/", told) as going:
        pages = await all_of(going)
    documents = [page for page in pages if page.content]
    assert len(documents) == going.pages == most
    asked = sum(number for path, number in site.asked.items() if path != "/robots.txt")
    summary = await summary_of(going.id, db=database_url)
    assert asked == summary.attempts - summary.reasons.get(Reason.ROBOTS_DISALLOWED, 0)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("strategy", ["breadth_first", "depth_first", "best_first"])
async def test_max_depth_is_exact(crawling, site: BigSite, depth: int, strategy: str) -> None:
    quick = {"exclude": ("/broken/later",), "retries": 0}
    told = config(max_depth=depth, strategy=strategy, keywords=("down",), **quick)
    async with crawling(f"{site.url}/page/0", told) as going:
        pages = await all_of(going)
    found = {p for p in paths(site, pages, Reason.FETCHED) if p.startswith("/page/")}
    front = 1 if depth else 99
    near = {
        f"/page/{n}" for n in range(NUMBER) if min(depth_of(n) - 1, front + depth_of(n)) <= depth
    }
    assert found == near
    assert max(page.depth for page in pages) <= depth


async def test_orders_are_the_strategies_own(crawling, database_url: str) -> None:
    def linked(*targets: str):
        return web.page("".join(f'<a href="{t}">{t}</a>' for t in targets) or "<p>leaf</p>")

    tree = {
        "/": linked("/1", "/2", "/3"),
        "/1": linked("/11", "/12"),
        "/2": linked("/21-good"),
        "/3": linked("/31"),
        **{path: linked() for path in ("/11", "/12", "/21-good", "/31")},
    }
    orders = {
        "breadth_first": ["/", "/1", "/2", "/3", "/11", "/12", "/21-good", "/31"],
        "depth_first": ["/", "/1", "/11", "/12", "/2", "/21-good", "/3", "/31"],
        "best_first": ["/", "/1", "/2", "/21-good", "/3", "/11", "/12", "/31"],
    }
    for strategy, order in orders.items():
        async with web.site(tree) as small:
            told = config(strategy=strategy, keywords=("good",), concurrency=1)
            async with crawling(f"{small.url}/", told) as going:
                seen = [page.url.removeprefix(small.url) async for page in going]
        assert seen == order, strategy


async def test_robots_and_sitemaps(crawling, site: BigSite) -> None:
    told = config(use_sitemaps=True, max_depth=1)
    async with crawling(f"{site.url}/", told) as going:
        pages = await all_of(going)
    hidden = {f"/hidden/{n}" for n in range(HIDDEN_PAGES)}
    assert hidden < set(paths(site, pages, Reason.FETCHED))
    assert not any(path.startswith("/private") for path in site.asked)
    async with crawling(f"{site.url}/private/1", config(respect_robots=False)) as going:
        assert (await anext(aiter(going))).reason is Reason.FETCHED


async def test_a_seed_that_robots_close_is_told(crawling, site: BigSite) -> None:
    async with crawling(f"{site.url}/private/1", config()) as going:
        (only,) = await all_of(going)
    assert (only.reason, going.pages, going.is_complete) == (Reason.ROBOTS_DISALLOWED, 0, True)


async def test_the_same_bytes_are_noted(crawling, database_url: str) -> None:
    same = web.page("<p>The same <a href='/c'>page</a></p>")
    async with (
        web.site({"/": web.page("<a href=/a>a</a><a href=/b>b</a>"), "/a": same, "/b": same}) as s,
        crawling(f"{s.url}/", config(concurrency=1)) as going,
    ):
        twins = {p.url: p.duplicate_of for p in await all_of(going)}
        assert twins[f"{s.url}/b"] == f"{s.url}/a"
        assert twins[f"{s.url}/a"] is None
    assert fetch(database_url, "SELECT count(*) FROM llm_page_bodies") == [(2,)]


async def test_a_slow_host_keeps_no_other_waiting(site: BigSite, database_url: str) -> None:
    ended: list[str] = []

    async def never(request):
        await asyncio.sleep(600)
        return aiohttp.web.Response()

    patient = HttpFetcher(web.LOOPBACK, limits=Limits(timeout_s=600))
    slow_pages = {f"/{n}": never for n in range(20)} | {"/robots.txt": web.page(status=404)}
    async with web.site(slow_pages) as slow:
        seeds = [*(f"{slow.url}/{n}" for n in range(20)), f"{site.url}/page/0"]
        told = config(per_host_concurrency=2)
        async with crawl(seeds, told, fetcher=patient, db=database_url) as going:
            async for page in going:
                ended.append(page.url)
                if going.pages >= 60:
                    break
    await patient.aclose()
    assert not any(url.startswith(slow.url) for url in ended)


async def test_leaving_keeps_what_was_done(crawling, site: BigSite, fetcher, database_url) -> None:
    async with crawling(f"{site.url}/", config()) as going:
        first = [await anext(aiter(going)) for _ in range(20)]
    assert (await summary_of(going.id, db=database_url)).state == "stopped"
    assert len(first) == 20
    async with resume(going.id, fetcher=fetcher, db=database_url) as again:
        assert again.config == going.config
        await all_of(again)
    summary = await summary_of(going.id, db=database_url)
    assert summary.state == "completed"
    everything = [p async for p in stored_pages(going.id, db=database_url)]
    documents = {p.url.removeprefix(site.url) for p in everything if p.content}
    assert site.plain <= documents
    in_tree = {path: number for path, number in site.asked.items() if path in site.tree}
    # Each once, and those that were on their way when it stopped once more at most.
    assert sum(in_tree.values()) - len(site.tree) <= summary.interruptions


async def test_a_completed_crawl_asks_nothing_more(crawling, site, fetcher, database_url) -> None:
    async with crawling(f"{site.url}/", config(max_pages=10)) as going:
        await all_of(going)
    before = site.asked.copy()
    async with resume(going.id, fetcher=fetcher, db=database_url) as again:
        assert await all_of(again) == []
        assert (again.pages, again.is_complete) == (10, True)
    assert site.asked == before
    async with resume(going.id, max_pages=25, fetcher=fetcher, db=database_url) as more:
        assert len([p for p in await all_of(more) if p.content]) == 15
    assert (await summary_of(going.id, db=database_url)).pages == 25


async def test_another_extractor_fetches_nothing(crawling, site: BigSite, database_url) -> None:
    read: list[str] = []

    def counted(page) -> Any:
        read.append(page.url)
        return extract(page.body, page.url)

    first, second = (Extractor(version, counted) for version in ("1", "2"))
    # A session's page says something else each time.
    told = config(max_pages=30, exclude=("/session",))
    async with crawling(f"{site.url}/", told, extractor=first) as going:
        pages = await all_of(going)
    documents = {page.url: page.content for page in pages if page.content}
    assert len(read) == len(documents) == 30
    asked = site.asked.copy()
    stored = [p async for p in stored_pages(going.id, extractor=first, db=database_url)]
    assert {p.url: p.content for p in stored if p.content} == documents
    assert len(read) == 30
    for _ in range(2):
        stored = [p async for p in stored_pages(going.id, extractor=second, db=database_url)]
        assert {p.url: p.content for p in stored if p.content} == documents
        assert len(read) == 60
    assert site.asked == asked
    # Another crawl fetches, but what came before is not read again.
    async with crawling(f"{site.url}/", told, extractor=first) as again:
        await all_of(again)
    new = {p.url for p in [p async for p in stored_pages(again.id, db=database_url)] if p.content}
    assert len(read) == 60 + len(new - documents.keys())


async def test_an_extractor_that_breaks_ends_no_crawl(crawling, site: BigSite) -> None:
    def breaking(page) -> Any:
        raise RecursionError

    broken = Extractor("broken", breaking)
    async with crawling(f"{site.url}/", config(), extractor=broken) as going:
        (page,) = await all_of(going)
    assert page.reason is Reason.DAMAGED


async def test_one_process_one_crawl(crawling, site: BigSite, database_url: str, fetcher) -> None:
    crawl_id = str(uuid4())
    async with crawling(f"{site.url}/", config(), crawl_id=crawl_id) as going:
        await anext(aiter(going))
        with pytest.raises(RunBusyError, match=f"crawl {crawl_id} is being worked on"):
            async with resume(crawl_id, fetcher=fetcher, db=database_url):
                pass
        # A successor, such as on a machine that believes this one dead, takes it over.
        execute(database_url, f"UPDATE llm_crawls SET fence = fence + 1 WHERE id = '{crawl_id}'")
        with pytest.raises(FencedError, match="taken over"):
            await all_of(going)
        with pytest.raises(StopAsyncIteration):
            await anext(aiter(going))


async def test_clear_words_for_wrong_input(crawling, database_url: str) -> None:
    with pytest.raises(InvalidInputError, match="write http"):
        async with crawling("example.org", config()):
            pass
    with pytest.raises(InvalidInputError, match="a URL to start from"):
        async with crawling([], config()):
            pass
    missing = str(uuid4())
    with pytest.raises(InvalidInputError, match=f"project test has no crawl {missing}"):
        async with resume(missing, db=database_url):
            pass
    with pytest.raises(InvalidInputError, match="no crawl"):
        await summary_of(missing, db=database_url)
    with pytest.raises(ValueError, match="keywords"):
        CrawlConfig(strategy="best_first")
    with pytest.raises(ValueError, match="regular expression"):
        CrawlConfig(include=("(",))
    with pytest.raises(ValueError, match="no host"):
        CrawlConfig(hosts=("http://example.org",))


async def test_a_private_address_is_not_asked(site: BigSite, database_url: str) -> None:
    async with crawl(f"{site.url}/", db=database_url) as going:
        (only,) = await all_of(going)
    assert only.reason is Reason.PRIVATE_ADDRESS
    assert not site.asked
