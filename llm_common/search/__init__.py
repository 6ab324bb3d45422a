"""The seam `SearchEngine` and one file per engine."""

from __future__ import annotations

from ..errors import ConfigurationError
from .base import RECENCIES, Endpoint, Found, Recency, SearchEngine, SearchQuery, SearchResult
from .brave import BraveSearch
from .exa import ExaSearch
from .ranking import official_first
from .searxng import SearxngSearch
from .serper import SerperSearch
from .tavily import TavilySearch
from .zai import ZaiSearch

__all__ = [
    "RECENCIES",
    "BraveSearch",
    "Endpoint",
    "ExaSearch",
    "Found",
    "Recency",
    "SearchEngine",
    "SearchQuery",
    "SearchResult",
    "SearxngSearch",
    "SerperSearch",
    "TavilySearch",
    "ZaiSearch",
    "engine_named",
    "official_first",
]


def engine_named(name: str) -> SearchEngine:
    """Return an engine by name; `offline` is the provider server's, and is never a default.

    Raises:
        ConfigurationError: there is no such engine.
    """
    engines: dict[str, SearchEngine] = {
        "zai": ZaiSearch(),
        "serper": SerperSearch(),
        "tavily": TavilySearch(),
        "brave": BraveSearch(),
        "exa": ExaSearch(),
        "searxng": SearxngSearch(),
        "offline": ZaiSearch("offline", "search", None),
    }
    if name not in engines:
        raise ConfigurationError(f"no search engine {name!r}: use {', '.join(sorted(engines))}")
    return engines[name]
