"""From an engine's entry to a result: what is not what it should be is left out, never raised."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from .base import SearchQuery, SearchResult

SNIPPET = 300
"""Characters of a longer text that make a snippet, where the engine gives none."""
DAYS = {"1d": 1, "1w": 7, "1m": 31, "1y": 366}
GRACE_DAYS = 1
"""Dates on pages are those of some time zone."""

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?!\d)")
_AGO = re.compile(r"(\d+)\s+(minute|hour|day|week|month|year)s?\s+ago", re.IGNORECASE)
_AGO_DAYS = {"minute": 0, "hour": 0, "day": 1, "week": 7, "month": 30, "year": 365}
_WRITTEN = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y")

Entry = Mapping[str, Any]


def ranked(
    engine: str, entries: Iterable[Entry], url_key: str, read: Callable[[Entry], dict[str, Any]]
) -> list[SearchResult]:
    """Return the results among `entries`, best first; those without a web address are left out.

    Args:
        read: says of an entry what its snippet, content, published_date and score are.
    """
    pages = (entry for entry in entries if is_page(entry.get(url_key)))
    return [
        SearchResult(
            title=text(entry.get("title")) or str(entry[url_key]),
            url=str(entry[url_key]),
            engine=engine,
            rank=rank,
            raw=dict(entry),
            **read(entry),
        )
        for rank, entry in enumerate(pages, 1)
    ]


def is_page(url: object) -> bool:
    """Tell whether this is the address of a web page."""
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return False
    return bool(host_of(url))


def host_of(url: str) -> str:
    """Return the host of an address in lower case; nothing if it has none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def text(value: object) -> str:
    """Return a text or a number as text; nothing of anything else."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def texts(value: object) -> list[str]:
    """Return the texts of a list; nothing of anything else."""
    found: list[object] = value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
    return [each for each in map(text, found) if each]


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def on_sites(query: SearchQuery) -> str:
    """Write the domains of a query as `site:` operators, for engines without a filter."""
    sites = " OR ".join(f"site:{domain}" for domain in query.domains)
    if not sites:
        return query.query
    return f"{query.query} ({sites})" if len(query.domains) > 1 else f"{query.query} {sites}"


def kept(results: Iterable[SearchResult], query: SearchQuery, today: date) -> list[SearchResult]:
    """Hold an engine to the count, the domains and the recency that it was asked for.

    A result whose date is not given or can't be read stays.
    """
    found = [r for r in results if is_on(r.url, query.domains) and _is_recent(r, query, today)]
    return [
        result if result.rank == rank else result.model_copy(update={"rank": rank})
        for rank, result in enumerate(found[: query.count], 1)
    ]


def is_on(url: str, domains: Iterable[str]) -> bool:
    """Tell whether an address is of one of these hosts, or below one; no hosts mean any."""
    wanted = tuple(domains)
    return not wanted or any(f".{host_of(url)}".endswith(f".{domain}") for domain in wanted)


def oldest(query: SearchQuery, today: date) -> date | None:
    """Return the first day that the recency of a query allows, or None."""
    return today - timedelta(days=DAYS[query.recency]) if query.recency else None


def _is_recent(result: SearchResult, query: SearchQuery, today: date) -> bool:
    first = oldest(query, today)
    if first is None or result.published_date is None:
        return True
    day = published_on(result.published_date, today)
    return day is None or day >= first - timedelta(days=GRACE_DAYS)


def published_on(written: str, today: date) -> date | None:
    """Read a date as engines write it: ISO, RFC 2822, ``Nov 3, 2025`` or ``3 days ago``."""
    try:
        if iso := _ISO.match(written):
            return date(*map(int, iso.groups()))
        if ago := _AGO.search(written):
            return today - timedelta(days=int(ago[1]) * _AGO_DAYS[ago[2].lower()])
    except (ValueError, OverflowError):
        return None
    for form in _WRITTEN:
        try:
            return datetime.strptime(written, form).replace(tzinfo=UTC).date()
        except ValueError:
            continue
    try:
        return parsedate_to_datetime(written).date()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
