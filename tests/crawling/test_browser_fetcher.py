"""A real Chromium: what scripts write, what it may not ask, and that nothing of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest
from aiohttp import web

from llm_common.crawling import Reason, extract
from llm_common.crawling.addresses import guard
from llm_common.crawling.auto_fetcher import fetcher_named
from llm_common.crawling.browser_fetcher import BrowserFetcher, BrowserLimits
from llm_common.crawling.chromium import executable
from tests.support import skip_or_fail

from .web import LOOPBACK, page, redirect, site

pytestmark = pytest.mark.web

SHELL = """<html><head><meta charset=iso-8859-1><title>App</title></head><body><div id=root></div>
<script>fetch('/data').then(r => r.text()).then(t => {
  document.getElementById('root').innerHTML = '<p>' + t + '</p><a href=/next>Next</a>'})</script>"""
DATA = "Geschäftsführer: written by a script"


@pytest.fixture
async def browser() -> AsyncIterator[BrowserFetcher]:
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    fetcher = BrowserFetcher(LOOPBACK, limits=BrowserLimits(timeout_s=120, pages_per_browser=20))
    yield fetcher
    await fetcher.aclose()
    assert not chromium_processes()


def chromium_processes() -> list[psutil.Process]:
    """Return the browsers and Playwright's drivers that this process has."""
    children = psutil.Process().children(recursive=True)
    return [process for process in children if _is_browser(process)]


def _is_browser(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "playwright" in line or "chromium" in line


async def test_what_scripts_write(browser: BrowserFetcher) -> None:
    pages = {
        "/app": page(SHELL),
        "/data": page(DATA, Content_Type="text/plain; charset=utf-8"),
        "/moved": redirect("/app"),
        "/missing": page("<p>no", 404),
        "/bare": page(b"", 404),
        "/busy": page("<p>later", 503, Retry_After="9"),
        "/loop": redirect("/loop"),
        "/pdf": page(b"%PDF-1.4", Content_Type="application/pdf"),
        "/inside": redirect("http://169.254.169.254/latest/"),
    }
    async with site(pages) as served:
        url = served.url
        shown = await browser.fetch(f"{url}/app")
        assert shown.reason is Reason.FETCHED
        assert (shown.fetcher, shown.status, shown.final_url) == ("browser", 200, f"{url}/app")
        content = extract(shown.body, shown.final_url)
        assert DATA in content.text
        assert [link.url for link in content.links] == [f"{url}/next"]

        moved = await browser.fetch(f"{url}/moved")
        assert (moved.final_url, moved.redirects) == (f"{url}/app", (f"{url}/moved",))
        left = await browser.fetch(f"{url}/moved", hops=0)
        assert (left.reason, left.redirect_to, left.body) == (
            Reason.REDIRECTED,
            f"{url}/app",
            b"",
        )
        ends = {
            path: (await browser.fetch(url + path)).reason
            for path in ("/missing", "/bare", "/busy", "/loop", "/pdf", "/inside")
        }
        assert (await browser.fetch(f"{url}/busy")).retry_after_s == 9.0
    assert ends == {
        "/missing": Reason.NOT_FOUND,
        "/bare": Reason.NOT_FOUND,
        "/busy": Reason.SERVER_ERROR,
        "/loop": Reason.REDIRECT_LOOP,
        "/pdf": Reason.UNSUPPORTED_TYPE,
        "/inside": Reason.PRIVATE_ADDRESS,
    }
    assert (await browser.fetch(url)).reason is Reason.UNREACHABLE
    assert (await browser.fetch("https://nowhere.invalid/")).reason is Reason.UNREACHABLE
    assert (await browser.fetch("http://10.0.0.1/")).reason is Reason.PRIVATE_ADDRESS


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_what_a_page_loads_goes_through_the_guard(is_allowed: bool) -> None:
    """Frames, images, scripts, sockets and redirects: none reaches a private address."""
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    async with site({"/secret": page("<p>secret"), "/x.js": page("'x'")}) as inside:
        port = inside.url.rpartition(":")[2]
        loads = "".join(
            f"<iframe src={there}/secret></iframe><img src={there}/secret>"
            f"<script src={there}/x.js></script>"
            f"<script>fetch('{there}/secret', {{mode: 'no-cors'}});"
            f"new WebSocket('{there}/secret'.replace('http', 'ws'))</script>"
            for there in (inside.url, f"http://localhost:{port}", f"http://[::ffff:7f00:1]:{port}")
        )
        # The page itself comes from the one address that is always allowed.
        pages = {"/": page(f"<p>hello</p>{loads}"), "/moved": redirect(f"{inside.url}/secret")}
        fetcher = BrowserFetcher(LOOPBACK if is_allowed else guard(["127.0.0.2/32"]))
        async with site(pages, "127.0.0.2") as outside:
            shown = await fetcher.fetch(outside.url)
            moved = await fetcher.fetch(f"{outside.url}/moved")
            await asyncio.sleep(0.5)
        await fetcher.aclose()
    assert shown.reason is Reason.FETCHED
    assert moved.reason is (Reason.FETCHED if is_allowed else Reason.PRIVATE_ADDRESS)
    assert bool(inside.asked) == is_allowed


async def test_browsers_are_replaced_and_none_stays(browser: BrowserFetcher) -> None:
    async with site({"/": page("<p>some text</p>")}) as served:
        fetched = await asyncio.gather(*(browser.fetch(f"{served.url}/?{n}") for n in range(50)))
    assert {each.reason for each in fetched} == {Reason.FETCHED}
    assert served.asked.keys() >= {f"/?{n}" for n in range(50)}
    await browser.aclose()
    assert not chromium_processes()


async def test_a_browser_that_dies_is_replaced(browser: BrowserFetcher) -> None:
    async def killer(request: web.Request) -> web.Response:
        if not killed:
            for process in chromium_processes():
                if process.name().startswith("chrom"):
                    killed.append(process.pid)
                    process.kill()
        return web.Response(text="<p>alive</p>", content_type="text/html")

    killed: list[int] = []
    async with site({"/": killer}) as served:
        first = await browser.fetch(f"{served.url}/")
        second = await browser.fetch(f"{served.url}/")
    assert killed
    assert first.reason is Reason.BROWSER_FAILED
    assert second.reason is Reason.FETCHED


async def test_slow_and_endless_pages_end(browser: BrowserFetcher) -> None:
    fetcher = BrowserFetcher(LOOPBACK, limits=BrowserLimits(timeout_s=8, most_bytes=200_000))

    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(600)
        return web.Response(text="late")

    grow = "<p>x</p><script>document.body.append('y'.repeat(3e5))</script>"
    stuck = "<script>for(;;);</script>"
    async with site({"/never": never, "/grow": page(grow), "/stuck": page(stuck)}) as s:
        assert (await fetcher.fetch(f"{s.url}/grow")).reason is Reason.TOO_LARGE
        assert (await fetcher.fetch(f"{s.url}/never")).reason is Reason.TIMEOUT
        assert (await fetcher.fetch(f"{s.url}/stuck")).reason is Reason.TIMEOUT
        assert (await fetcher.fetch(f"{s.url}/grow")).reason is Reason.TOO_LARGE
    await fetcher.aclose()
    assert not chromium_processes()


async def test_auto_uses_the_browser_only_where_it_must() -> None:
    if executable() is None:
        skip_or_fail("there is no Chromium on this machine")
    fetcher = fetcher_named("auto", LOOPBACK)
    prose = page("<p>" + "The council met and decided on rents. " * 10)
    async with site({"/app": page(SHELL), "/data": page(DATA), "/prose": prose}) as served:
        assert (await fetcher.fetch(f"{served.url}/prose")).fetcher == "http"
        assert served.asked == {"/prose": 1}
        assert (await fetcher.fetch(f"{served.url}/app")).fetcher == "browser"
    await fetcher.aclose()
