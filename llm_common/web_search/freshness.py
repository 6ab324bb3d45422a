"""For how long an answer serves, by what was asked. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

from ..cache import Windows
from ..search import SearchQuery
from ..search.ranking import is_government

QueryClass = Literal["news", "official", "reference"]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
WINDOWS: dict[QueryClass, Windows] = {
    "news": Windows(15 * MINUTE_S, HOUR_S, DAY_S),
    # Statutes and agency pages change seldom, and their hosts are away more often than others.
    "official": Windows(DAY_S, 2 * DAY_S, 30 * DAY_S),
    "reference": Windows(DAY_S, DAY_S, 7 * DAY_S),
}
EMPTY_S = 60.0
"""How long an empty answer is kept: what is not found today may be tomorrow."""
JITTER = 0.1
"""Windows differ by up to this part: what came in one minute does not end in one minute."""

_NEWS = re.compile(
    r"\b(news|breaking|latest|today|tonight|yesterday|this (week|morning)|right now)\b",
    re.IGNORECASE,
)


def class_of(query: SearchQuery) -> QueryClass:
    """Return how soon the answer to a query is out of date."""
    if query.recency in ("1d", "1w") or _NEWS.search(query.query):
        return "news"
    if query.domains and all(map(is_government, query.domains)):
        return "official"
    return "reference"


def windows_of(query_class: QueryClass, key: str, fresh_s: float | None, *, found: bool) -> Windows:
    """Return the windows of an answer.

    Args:
        key: of the cache, a hash in hexadecimal; it decides the jitter.
        fresh_s: what the host wants as the first window; the others keep their proportion to it.
        found: an empty answer is kept for a minute at most, and never stale.
    """
    normal = WINDOWS[query_class]
    fresh = normal.fresh_s if fresh_s is None else fresh_s
    if not found:
        normal, fresh = replace(normal, stale_s=0.0, error_s=0.0), min(fresh, EMPTY_S)
    spread = jitter(key)
    scale = spread * fresh / normal.fresh_s
    return Windows(fresh * spread, normal.stale_s * scale, normal.error_s * scale)


def jitter(key: str) -> float:
    """Return a factor of 0.9 to 1.1 that is the same for a key in every process."""
    return 1 - JITTER + 2 * JITTER * int(key[:8], 16) / 0xFFFFFFFF
