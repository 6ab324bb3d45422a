"""Official sources first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .base import SearchResult
from .normal import host_of

_GOVERNMENT = re.compile(r"(^|\.)(gov|mil)(\.[a-z]{2})?$")
"""The closed domains: .gov and .mil, and those below a country, such as .gov.uk."""
_STATE = re.compile(r"(^|\.)(state|leg|courts?|co|ci)\.([a-z0-9-]+\.)?[a-z]{2}\.us$")
"""Older hosts of states, counties and cities, such as leg.state.nv.us."""
_LEGISLATURE = re.compile(r"(^|\.)(leg|legis|[a-z]*legislature)\.")
"""Legislatures that have a domain of another kind, such as kslegislature.org."""
_SCHOLARLY = re.compile(r"(\.edu|\.ac\.[a-z]{2}|\.org)$")


def official_first(results: Iterable[SearchResult]) -> list[SearchResult]:
    """Order results by who publishes them: government, then .edu and .org, then the rest.

    Within a class the order stays. `rank` is numbered anew.
    """
    ordered = sorted(results, key=lambda result: host_class(result.url))
    return [
        result if result.rank == rank else result.model_copy(update={"rank": rank})
        for rank, result in enumerate(ordered, 1)
    ]


def host_class(url: str) -> int:
    """Return 0 for a government's host or a legislature's, 1 for .edu and .org, 2 for others."""
    host = host_of(url)
    if is_government(host) or _LEGISLATURE.search(host):
        return 0
    return 1 if _SCHOLARLY.search(host) else 2


def is_government(host: str) -> bool:
    """Tell whether only a government can own a host of this name."""
    return bool(_GOVERNMENT.search(host) or _STATE.search(host))
