"""When a page needs a browser, and what becomes of the two answers."""

from __future__ import annotations

import pytest

from llm_common.crawling import Fetched, Reason
from llm_common.crawling.auto_fetcher import (
    AutoFetcher,
    BrowserFirstFetcher,
    fetcher_named,
    needs_browser,
)
from llm_common.errors import ConfigurationError

PROSE = "<p>" + "The council met and decided on rents. " * 10 + "</p>"
SHELL = '<div id="root"></div><script src="/app.js"></script>'


def got(body: str, kind: str = "text/html", reason: Reason = Reason.FETCHED) -> Fetched:
    return Fetched("http://h/", "http://h/", reason, 200, body.encode(), {"content-type": kind})


@pytest.mark.parametrize(
    ("fetched", "needed"),
    [
        (got(PROSE), False),
        (got(PROSE + SHELL), False),
        (got("<p>A short page without scripts</p>"), False),
        (got(SHELL), True),
        (got(f"<p>Loading…</p>{SHELL}"), True),
        (got("<html><body></body></html>"), True),
        (got("<noscript>You need to enable JavaScript to run this app.</noscript><p>x"), True),
        (got("", reason=Reason.EMPTY), True),
        (got("<title>only a head</title><style>p{}</style>"), True),
        (got(SHELL, "application/pdf"), False),
        (got("{}", "application/json"), False),
        (got("", reason=Reason.NOT_FOUND), False),
        (got("", "application/pdf", Reason.EMPTY), False),
    ],
)
def test_evidence(fetched: Fetched, needed: bool) -> None:
    assert needs_browser(fetched) is needed


class Written:
    """A fetcher that gives what a test wrote, and takes note of what it was asked."""

    def __init__(self, name: str, answer: Fetched) -> None:
        self.name = name
        self.answer = answer
        self.asked: list[str] = []
        self.closed = False

    async def fetch(self, url: str, *, hops: int = 10) -> Fetched:
        self.asked.append(url)
        return self.answer

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("plain", "shown", "kept"),
    [
        (got(PROSE), None, "http"),
        (got("", reason=Reason.NOT_FOUND), None, "http"),
        (got(SHELL), got(PROSE), "browser"),
        (got(SHELL), got(SHELL), "http"),
        (got(SHELL), got("", reason=Reason.TIMEOUT), "http"),
        (got("", reason=Reason.EMPTY), got(PROSE), "browser"),
    ],
)
async def test_http_first(plain: Fetched, shown: Fetched | None, kept: str) -> None:
    http, browser = Written("http", plain), Written("browser", shown or got("never asked"))
    fetcher = AutoFetcher(http, browser)
    fetched = await fetcher.fetch("http://h/")
    assert bool(browser.asked) == (shown is not None)
    if kept == "http":
        assert fetched is plain
    else:
        assert shown
        assert fetched.body == shown.body
    await fetcher.aclose()
    assert http.closed
    assert browser.closed


@pytest.mark.parametrize(
    ("shown", "plain", "kept"),
    [
        (got(PROSE), None, "browser"),
        (got("", reason=Reason.NOT_FOUND), None, "browser"),
        (got("", reason=Reason.TIMEOUT), None, "browser"),
        (got(SHELL), got(PROSE), "http"),
        (got("", reason=Reason.UNSUPPORTED_TYPE), got("%PDF", "application/pdf"), "http"),
        (got("", reason=Reason.BROWSER_FAILED), got(PROSE), "http"),
        (got("", reason=Reason.BROWSER_FAILED), got("", reason=Reason.REFUSED), "browser"),
    ],
)
async def test_a_browser_first(shown: Fetched, plain: Fetched | None, kept: str) -> None:
    http, browser = Written("http", plain or got("never asked")), Written("browser", shown)
    fetcher = BrowserFirstFetcher(http, browser)
    fetched = await fetcher.fetch("http://h/")
    assert bool(http.asked) == (plain is not None)
    assert fetched is (plain if kept == "http" else shown)
    await fetcher.aclose()
    assert http.closed
    assert browser.closed


async def test_a_host_may_be_named() -> None:
    browser = Written("browser", got(PROSE))
    fetcher = AutoFetcher(Written("http", got(PROSE)), browser, browser_hosts=["H"])
    await fetcher.fetch("http://h/")
    assert browser.asked == ["http://h/"]


def test_an_unknown_fetcher_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="use auto, http, browser"):
        fetcher_named("curl")


def test_fetchers_by_name() -> None:
    assert [fetcher_named(name).name for name in ("auto", "http", "browser")] == [
        "auto",
        "http",
        "browser",
    ]
