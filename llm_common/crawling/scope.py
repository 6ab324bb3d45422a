"""Which URLs belong to a crawl, and which only look like more of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from .config import CrawlConfig
from .models import Reason
from .urls import host_of, registered_domain

LONGEST_URL = 2_000
"""Characters; what browsers and servers take for granted (RFC 9110, 4.1, asks for 8,000)."""
MOST_SEGMENTS = 20
MOST_REPEATS = 3
"""So often a segment may come in one path: /a/b/a/b/a/b/a is a site that links to itself."""

_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d([-/.]?)(?:0?[1-9]|1[0-2])(?:\1(?:0?[1-9]|[12]\d|3[01]))?(?!\d)"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The rules of one crawl; made by `scope_of`."""

    hosts: frozenset[str]
    domains: frozenset[str]
    include: tuple[re.Pattern[str], ...]
    exclude: tuple[re.Pattern[str], ...]

    def holds(self, url: str) -> bool:
        """Tell whether a normal URL belongs to the crawl."""
        host = host_of(url)
        if not (_bare(host) in self.hosts or registered_domain(host) in self.domains):
            return False
        if self.include and not any(pattern.search(url) for pattern in self.include):
            return False
        return not any(pattern.search(url) for pattern in self.exclude) and not is_trap(url)


def scope_of(seeds: Collection[str], config: CrawlConfig) -> Scope:
    """Return the scope of a crawl from normal URLs."""
    hosts = [host_of(seed) for seed in seeds]
    by_domain = config.scope == "domain"
    return Scope(
        hosts=frozenset(map(_bare, [*([] if by_domain else hosts), *config.hosts])),
        domains=frozenset(map(registered_domain, hosts)) if by_domain else frozenset(),
        include=tuple(map(re.compile, config.include)),
        exclude=tuple(map(re.compile, config.exclude)),
    )


def is_trap(url: str) -> bool:
    """Tell whether a normal URL looks like one of an endless number.

    It is longer than `LONGEST_URL`, its path has more than `MOST_SEGMENTS`, or one segment comes
    in it more than `MOST_REPEATS` times.
    """
    if len(url) > LONGEST_URL:
        return True
    segments = [segment for segment in urlsplit(url).path.split("/") if segment]
    if len(segments) > MOST_SEGMENTS:
        return True
    return bool(segments) and Counter(segments).most_common(1)[0][1] > MOST_REPEATS


def shape_of(url: str) -> str | None:
    """Return what a URL has in common with those that differ from it in values alone.

    Two shapes have no end of their own: one path with the same parameters, whatever their values
    (searches, filters, sessions), and one path that ends in a date (calendars). Others are None.
    """
    parts = urlsplit(url)
    path, dates = _DATE.subn("{date}", parts.path)
    if parts.query:
        names = sorted({part.partition("=")[0] for part in parts.query.split("&")})
        return f"{parts.netloc}{path}?{'&'.join(names)}"
    if dates and path.rstrip("/").endswith("{date}"):
        return f"{parts.netloc}{path.rstrip('/')}"
    return None


class Shapes:
    """Counts URLs by shape, so that no shape fills a crawl."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def admit(self, url: str) -> Reason | None:
        """Count one more URL; `OVER_LIMIT` where there are enough of its shape."""
        shape = shape_of(url)
        if shape is None:
            return None
        if self._counts[shape] >= self._most:
            return Reason.OVER_LIMIT
        self._counts[shape] += 1
        return None


def _bare(host: str) -> str:
    """One host with and without ``www.``: the usual first redirect of a site stays in scope."""
    return host.removeprefix("www.")
