"""Pages as a browser shows them: through crawl4ai, for pages that scripts write."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urldefrag, urlsplit

from ..extras import require
from ..retry_after import retry_after_s
from ..telemetry import event
from . import chromium
from .addresses import Guard
from .chromium import Chromium
from .guard_proxy import REASON_HEADER, GuardProxy
from .http_fetcher import MOST_BYTES, TIMEOUT_S, USER_AGENT, reason_of_status
from .litellm_check import refuse_overwritten
from .models import MOST_REDIRECTS, Fetched, Reason

PAGES_PER_BROWSER = 200
"""After so many a browser is replaced: its memory grows with every page."""
MOST_MEMORY = 2 * 1024**3
"""Bytes at which a browser is replaced sooner."""
_LOOKED_AT_EVERY = 20
_TRAFFIC_FACTOR = 5
"""A connection may bring so many times the bytes of a page, before it is cut."""
_SHOWN = ("", "text/html", "application/xhtml+xml", "text/plain", "text/xml", "application/xml")
_BOM = b"\xef\xbb\xbf"

_NET_ERRORS = {
    "ERR_NAME_NOT_RESOLVED": Reason.UNREACHABLE,
    "ERR_CONNECTION_REFUSED": Reason.UNREACHABLE,
    "ERR_UNSAFE_PORT": Reason.UNREACHABLE,
    "ERR_TUNNEL_CONNECTION_FAILED": Reason.UNREACHABLE,
    "ERR_PROXY_CONNECTION_FAILED": Reason.BROWSER_FAILED,
    "ERR_TIMED_OUT": Reason.TIMEOUT,
    "ERR_TOO_MANY_REDIRECTS": Reason.REDIRECT_LOOP,
    "ERR_UNKNOWN_URL_SCHEME": Reason.UNSUPPORTED_SCHEME,
    "ERR_ABORTED": Reason.UNSUPPORTED_TYPE,
    "ERR_INVALID_RESPONSE": Reason.BROKEN_ANSWER,
    "ERR_INVALID_HTTP_RESPONSE": Reason.BROKEN_ANSWER,
    "ERR_EMPTY_RESPONSE": Reason.BROKEN_ANSWER,
    "ERR_CONTENT_LENGTH_MISMATCH": Reason.BROKEN_ANSWER,
    "ERR_INCOMPLETE_CHUNKED_ENCODING": Reason.BROKEN_ANSWER,
    "ERR_CONTENT_DECODING_FAILED": Reason.BROKEN_ANSWER,
    "ERR_CONNECTION_CLOSED": Reason.BROKEN_ANSWER,
    "ERR_CONNECTION_RESET": Reason.BROKEN_ANSWER,
}
_NET_ERROR = re.compile(r"net::(ERR_[A-Z_]+)")


@dataclass(frozen=True, slots=True)
class BrowserLimits:
    """What the browser may take.

    Attributes:
        pages_at_once: pages that are open together.
        timeout_s: for one page.
        most_bytes: of the page's HTML, once its scripts have run.
        pages_per_browser, most_memory: when the browser is replaced; bytes, of all its processes.
    """

    pages_at_once: int = 8
    timeout_s: float = TIMEOUT_S
    most_bytes: int = MOST_BYTES
    pages_per_browser: int = PAGES_PER_BROWSER
    most_memory: int = MOST_MEMORY


class BrowserFetcher:
    """Fetches by a headless Chromium; see `Fetcher`. Needs the extra `crawl`.

    Redirects are the browser's own: with ``hops=0`` the outcome is `REDIRECTED` all the same, and
    what stood behind the redirect is dropped.

    Args:
        guard: which addresses may be asked, by pages and by what they load.

    Raises:
        ConfigurationError: litellm's files were overwritten; the message has the cure.
        MissingExtraError: crawl4ai is not installed.
    """

    name = "browser"

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        user_agent: str = USER_AGENT,
        limits: BrowserLimits | None = None,
    ) -> None:
        refuse_overwritten()
        self._guard = guard or Guard()
        self._limits = limits or BrowserLimits()
        self._user_agent = f"Mozilla/5.0 (compatible; {user_agent})"
        self._slots = asyncio.Semaphore(self._limits.pages_at_once)
        self._starting = asyncio.Lock()
        self._proxy: tuple[GuardProxy, str] | None = None
        self._browser: Chromium | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL; see `Fetcher.fetch`."""
        if refused := self._guard.judge(url):
            return Fetched(url, url, refused, fetcher=self.name)
        async with self._slots:
            began = time.monotonic()
            browser = await self._take()
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    outcome = await self._show(browser, url, hops)
            except TimeoutError:
                outcome = self._failed(url, Reason.TIMEOUT)
            finally:
                await self._give_back(browser)
            return replace(outcome, elapsed_s=time.monotonic() - began)

    async def aclose(self) -> None:
        """Close the browser and its proxy."""
        await asyncio.gather(*self._closing)
        if self._browser is not None:
            await self._browser.close()
            self._browser = None
        if self._proxy is not None:
            await self._proxy[0].aclose()
            self._proxy = None

    async def browser(self) -> Chromium:
        """Return the browser in use; start one if there is none, or if it is to be replaced."""
        if self._browser is None or self._browser.retired:
            self._browser = await self._start()
        return self._browser

    async def _take(self) -> Chromium:
        """Return a browser with room for one more page."""
        async with self._starting:
            browser = await self.browser()
            browser.served += 1
            browser.busy += 1
            browser.retired = browser.served >= self._limits.pages_per_browser
            return browser

    async def _start(self) -> Chromium:
        if self._proxy is None:
            proxy = GuardProxy(self._guard, self._limits.most_bytes * _TRAFFIC_FACTOR)
            self._proxy = (proxy, await proxy.start())
        browser = await chromium.start(self._proxy[1], self._user_agent)
        event("browser.started", level=logging.DEBUG)
        return browser

    async def _give_back(self, browser: Chromium) -> None:
        """Retire a browser that has grown too large; close a retired one after its last page."""
        if browser.served % _LOOKED_AT_EVERY == 0:
            memory = await asyncio.to_thread(browser.memory_bytes)
            browser.retired |= memory > self._limits.most_memory
        browser.retired |= not browser.is_alive()
        browser.busy -= 1
        for tab in browser.idle_tabs():
            self._spawn(browser.empty_tab(tab))
        if browser.retired and browser.busy == 0:
            if self._browser is browser:
                self._browser = None
            self._spawn(browser.close())

    def _spawn(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _show(self, browser: Chromium, url: str, hops: int) -> Fetched:
        crawl4ai = require("crawl4ai", "crawl")
        wanted = crawl4ai.CrawlerRunConfig(
            wait_until="domcontentloaded",
            page_timeout=int(self._limits.timeout_s * 1000),
            wait_for_images=False,
            delay_before_return_html=0,
            verbose=False,
            session_id=(tab := browser.take_tab()),
            shared_data={},
        )
        seen: dict[str, Any] = wanted.shared_data
        try:
            shown = await browser.strategy.crawl(url, config=wanted)
        except BaseException as error:
            self._spawn(browser.drop_tab(tab))
            if not isinstance(error, Exception):
                raise
            return self._failed(url, self._reason_of(url, error), seen.get("answer"))
        seen["forget"]()
        browser.keep_tab(tab)
        return self._outcome(url, hops, seen.get("answer"), shown.html)

    def _outcome(self, url: str, hops: int, answer: Any, html: str) -> Fetched:
        if answer is None:
            return self._failed(url, Reason.BROKEN_ANSWER)
        seen = self._seen(url, answer)
        if seen.reason is not Reason.FETCHED:
            return seen
        if seen.redirects and hops == 0:
            return replace(seen, reason=Reason.REDIRECTED, redirect_to=seen.final_url)
        if seen.content_type not in _SHOWN:
            return replace(seen, reason=Reason.UNSUPPORTED_TYPE)
        # The mark says UTF-8, whatever the page itself declares of the bytes it once was.
        body = _BOM + html.encode("utf-8", "replace")
        if len(body) > self._limits.most_bytes:
            return replace(seen, reason=Reason.TOO_LARGE)
        return replace(seen, body=body, headers={**seen.headers, "content-type": "text/html"})

    def _seen(self, url: str, answer: Any) -> Fetched:
        """Tell what the browser got for the page itself, without its body."""
        headers: dict[str, str] = answer.headers
        refused = headers.get(REASON_HEADER)
        return Fetched(
            url,
            urldefrag(str(answer.url)).url,
            Reason(refused) if refused else reason_of_status(answer.status),
            status=None if refused else answer.status,
            headers=headers,
            redirects=_path(answer.request),
            retry_after_s=retry_after_s(headers, time.time()),
            fetcher=self.name,
        )

    def _failed(self, url: str, reason: Reason, answer: Any = None) -> Fetched:
        """Tell of a page that could not be shown; what was answered before says more."""
        seen = self._seen(url, answer) if answer else None
        if seen and seen.reason not in (Reason.FETCHED, Reason.BROKEN_ANSWER):
            return seen
        return Fetched(url, url, reason, fetcher=self.name)

    def _reason_of(self, url: str, error: Exception) -> Reason:
        """Name what went wrong; the error's own text is dropped."""
        found = _NET_ERROR.search(str(error))
        name = found.group(1) if found else ""
        if name == "ERR_TUNNEL_CONNECTION_FAILED" and self._proxy is not None:
            parts = urlsplit(url)
            place = (parts.hostname or "", parts.port or 443)
            return self._proxy[0].reasons.get(place, Reason.UNREACHABLE)
        if name.startswith(("ERR_CERT", "ERR_SSL")):
            return Reason.UNREACHABLE
        if not name and "imeout" in type(error).__name__ + str(error)[:200]:
            return Reason.TIMEOUT
        return _NET_ERRORS.get(name, Reason.BROWSER_FAILED)


def _path(request: Any) -> tuple[str, ...]:
    """Return the URLs that led to a request, the first first."""
    path: list[str] = []
    while (request := request.redirected_from) is not None:
        path.append(str(request.url))
    return tuple(reversed(path))
