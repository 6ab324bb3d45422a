"""robots.txt: what a site asks of crawlers (RFC 9309), by protego's reading of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..extras import require
from .http_fetcher import USER_AGENT
from .models import Fetched, Fetcher, Reason, fault_of

LONGEST_ROBOTS = 1_000_000
"""Bytes that are read; RFC 9309 section 2.5 asks for 500 KiB at least."""
KEPT_S = 24 * 3600.0
"""RFC 9309 section 2.4: not longer than a day."""
FAILURE_KEPT_S = 60.0
_HOPS = 5
"""Redirects that are followed, as RFC 9309 section 2.3.1.2 asks."""


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of one origin.

    Attributes:
        unread: why they could not be read, which forbids everything; None if they could.
    """

    rules: Any = field(default=None, repr=False)
    unread: Reason | None = None

    def refusal(self, url: str, agent: str = USER_AGENT) -> Reason | None:
        """Say why a URL may not be fetched; None if it may."""
        if self.unread is not None:
            return self.unread
        return None if self.allows(url, agent) else Reason.ROBOTS_DISALLOWED

    def allows(self, url: str, agent: str = USER_AGENT) -> bool:
        """Tell whether the rules let an agent fetch a URL."""
        return self.unread is None and (self.rules is None or self.rules.can_fetch(url, agent))

    def crawl_delay(self, agent: str = USER_AGENT) -> float | None:
        """Return the seconds that the site wants between two requests of an agent."""
        return None if self.rules is None else self.rules.crawl_delay(agent)

    @property
    def sitemaps(self) -> list[str]:
        """The sitemaps that the file names."""
        return [] if self.rules is None else list(self.rules.sitemaps)


def parse_robots(body: bytes) -> Robots:
    """Read a robots.txt, whatever its bytes are."""
    text = body[:LONGEST_ROBOTS].decode("utf-8-sig", "replace")
    return Robots(require("protego", "pages").Protego.parse(text))


def robots_of(fetched: Fetched) -> Robots:
    """Decide by what came back for ``/robots.txt``: its rules, everything, or nothing.

    A site that says there is none (4xx) allows everything; one that can't say (5xx, 429, no answer)
    forbids everything for now. What we would not ask for decides nothing: the page itself will.
    """
    if fetched.reason is Reason.FETCHED:
        return parse_robots(fetched.body)
    if fetched.reason is Reason.RATE_LIMITED:
        return Robots(unread=fetched.reason)
    no_file = fetched.status is not None and 200 <= fetched.status < 500
    if no_file or fault_of(fetched.reason) == "input":
        return Robots()
    return Robots(unread=fetched.reason)


class RobotsCache:
    """The rules of every origin, fetched once a day at most."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._kept: dict[str, asyncio.Task[tuple[Robots, float]]] = {}

    async def rules_for(self, url: str) -> Robots:
        """Return the rules for the origin of a URL; those who ask at once share one request."""
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        reading = self._kept.get(origin)
        if reading is None or _is_over(reading):
            reading = asyncio.create_task(self._read(origin))
            self._kept[origin] = reading
        robots, _until = await asyncio.shield(reading)
        return robots

    async def _read(self, origin: str) -> tuple[Robots, float]:
        robots = robots_of(await self._fetcher.fetch(f"{origin}/robots.txt", hops=_HOPS))
        kept_s = KEPT_S if robots.unread is None else FAILURE_KEPT_S
        return robots, time.monotonic() + kept_s


def _is_over(reading: asyncio.Task[tuple[Robots, float]]) -> bool:
    if not reading.done():
        return False
    failed = reading.cancelled() or reading.exception() is not None
    return failed or time.monotonic() >= reading.result()[1]
