"""The seam `SearchEngine` and one file per engine."""

from __future__ import annotations

from ..errors import ConfigurationError
from .base import RECENCIES, Endpoint, Recency, SearchEngine, SearchQuery, SearchResult
from .serper import SerperSearch
from .zai import ZaiSearch

__all__ = [
    "RECENCIES",
    "Endpoint",
    "Recency",
    "SearchEngine",
    "SearchQuery",
    "SearchResult",
    "SerperSearch",
    "ZaiSearch",
    "engine_named",
]


def engine_named(name: str) -> SearchEngine:
    """Return an engine by name; `offline` is the provider server's, and is never a default.

    Raises:
        ConfigurationError: there is no such engine.
    """
    engines: dict[str, SearchEngine] = {
        "zai": ZaiSearch(),
        "serper": SerperSearch(),
        "offline": ZaiSearch("offline", "search", None),
    }
    if name not in engines:
        raise ConfigurationError(f"no search engine {name!r}: use {', '.join(sorted(engines))}")
    return engines[name]
