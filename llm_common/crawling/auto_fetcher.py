"""HTTP first, and a browser for the pages that show that they need one."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from ..errors import ConfigurationError, MissingExtraError
from ..extras import require
from ..telemetry import event
from .addresses import Guard
from .browser_fetcher import BrowserFetcher
from .charset import decode
from .http_fetcher import USER_AGENT, HttpFetcher
from .models import MOST_REDIRECTS, Fetched, Fetcher, Reason
from .tree import folded, name_of, parse

FETCHERS = ("auto", "http", "browser")

LOOKED_AT = 256 * 1024
"""Bytes of a page in which the evidence is looked for."""
LITTLE_TEXT = 200
"""Characters of visible text below which a page with scripts is taken for their empty shell."""

_HTML = ("", "text/html", "application/xhtml+xml")
_NOT_SHOWN = (Reason.FETCHED, Reason.EMPTY, Reason.UNSUPPORTED_TYPE, Reason.BROWSER_FAILED)
"""Outcomes of a browser that HTTP may better: nothing to see, a PDF, a browser that died."""
_UNSEEN = frozenset({"script", "style", "noscript", "template", "head"})
_ASKS_FOR_SCRIPTS = re.compile(
    rb"enable javascript|requires javascript|javascript is (disabled|required)", re.IGNORECASE
)


def needs_browser(fetched: Fetched) -> bool:
    """Tell whether what HTTP brought shows that scripts write the page.

    That is an empty body, hardly any visible text beside scripts, or a page that says so itself.
    """
    if fetched.reason is Reason.EMPTY:
        return fetched.status == 200 and fetched.content_type in _HTML
    if fetched.reason is not Reason.FETCHED or fetched.content_type not in _HTML:
        return False
    length, scripts = _visible(fetched.body)
    if length == 0:
        return True
    if length >= LITTLE_TEXT:
        return False
    return scripts or bool(_ASKS_FOR_SCRIPTS.search(fetched.body))


class AutoFetcher:
    """Fetches by HTTP, and again by a browser where the page needs it; see `Fetcher`.

    A browser that shows nothing leaves the answer of HTTP standing.

    Args:
        http: asks plainly; closed with this one, as is the other.
        browser: shows what scripts write.
        browser_hosts: hosts that are always shown by the browser, with their subdomains.
    """

    name = "auto"

    def __init__(
        self, http: Fetcher, browser: Fetcher, *, browser_hosts: Collection[str] = ()
    ) -> None:
        self._http = http
        self._browser = browser
        self._hosts = tuple(f".{host.lower().lstrip('.')}" for host in browser_hosts)

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL; see `Fetcher.fetch`."""
        plain = await self._http.fetch(url, hops=hops)
        if plain.reason not in (Reason.FETCHED, Reason.EMPTY):
            return plain
        if not (self._is_named(plain.final_url) or needs_browser(plain)):
            return plain
        shown = await self._browser.fetch(plain.final_url, hops=0)
        event("browser.used", level=logging.DEBUG, reason=shown.reason)
        if shown.reason is not Reason.FETCHED or _visible(shown.body)[0] == 0:
            return plain
        return Fetched(
            url,
            shown.final_url,
            shown.reason,
            shown.status,
            shown.body,
            shown.headers,
            plain.redirects,
            elapsed_s=plain.elapsed_s + shown.elapsed_s,
            fetcher=shown.fetcher,
        )

    async def aclose(self) -> None:
        """Close both fetchers."""
        await self._browser.aclose()
        await self._http.aclose()

    def _is_named(self, url: str) -> bool:
        host = f".{urlsplit(url).hostname or ''}"
        return host.endswith(self._hosts) if self._hosts else False


class BrowserFirstFetcher:
    """Fetches by a browser, and by HTTP what the browser can't show or shows empty; see `Fetcher`.

    Args:
        http: asks plainly; closed with this one, as is the other.
        browser: shows what scripts write.
    """

    name = "browser"

    def __init__(self, http: Fetcher, browser: Fetcher) -> None:
        self._http = http
        self._browser = browser

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL; see `Fetcher.fetch`."""
        shown = await self._browser.fetch(url, hops=hops)
        has_text = shown.reason is Reason.FETCHED and _visible(shown.body)[0] > 0
        if has_text or shown.reason not in _NOT_SHOWN:
            return shown
        plain = await self._http.fetch(url, hops=hops)
        return plain if plain.reason is Reason.FETCHED else shown

    async def aclose(self) -> None:
        """Close both fetchers."""
        await self._browser.aclose()
        await self._http.aclose()


def fetcher_named(
    name: str,
    guard: Guard | None = None,
    *,
    user_agent: str = USER_AGENT,
    browser_hosts: Collection[str] = (),
) -> Fetcher:
    """Return a fetcher by name; ``auto`` without the extra `crawl` is HTTP alone, and says so.

    ``browser`` falls back to HTTP for what a browser can't show, such as a PDF, or shows empty.

    Raises:
        ConfigurationError: no such fetcher, or a litellm that was overwritten.
        MissingExtraError: ``browser`` without the extra.
    """
    if name not in FETCHERS:
        raise ConfigurationError(f"no fetcher {name!r}: use {', '.join(FETCHERS)}")
    http = HttpFetcher(guard, user_agent=user_agent)
    if name == "http":
        return http
    try:
        require("crawl4ai", "crawl")
    except MissingExtraError:
        if name == "browser":
            raise
        event("browser.missing", level=logging.WARNING, extra="crawl")
        return http
    browser = BrowserFetcher(guard, user_agent=user_agent)
    if name == "browser":
        return BrowserFirstFetcher(http, browser)
    return AutoFetcher(http, browser, browser_hosts=browser_hosts)


def _visible(body: bytes) -> tuple[int, bool]:
    """Return how many characters a reader sees, and whether there are scripts."""
    root = parse(decode(body[:LOOKED_AT]))
    if root is None:
        return 0, False
    length, scripts = 0, False
    walk = require("lxml.etree", "pages").iterwalk(root, events=("start", "end"))
    for moment, element in walk:
        name = name_of(element)
        scripts |= name == "script"
        if moment == "start" and name in _UNSEEN:
            walk.skip_subtree()
        elif name not in _UNSEEN:
            length += len(folded(element.text if moment == "start" else element.tail))
        elif moment == "end":
            length += len(folded(element.tail))
    return length, scripts
