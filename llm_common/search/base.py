"""The seam to a web search engine: one query, one request, one shape of result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from pydantic import Field

from ..types import Frozen

Recency = Literal["1d", "1w", "1m", "1y"]
RECENCIES: tuple[str, ...] = get_args(Recency)


class SearchResult(Frozen):
    """One result, the same for every engine.

    Attributes:
        snippet: a short passage; `content` is the longer text where the engine gives one.
        published_date: as the engine writes it.
        rank: 1 for the first result.
        raw: what the engine sent, whole.
    """

    title: str
    url: str
    snippet: str = ""
    content: str | None = None
    published_date: str | None = None
    score: float | None = None
    engine: str = ""
    rank: int = 0
    raw: dict[str, Any] = Field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is searched for.

    Attributes:
        domains: only results of these hosts; empty means all.
        recency: not older than a day, week, month or year.
    """

    query: str
    count: int = 10
    domains: tuple[str, ...] = ()
    recency: Recency | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine is and the key for it."""

    base_url: str
    key_alias: str
    key: str = field(repr=False)


class SearchEngine(Protocol):
    """An engine; `product` is what its requests are priced under."""

    name: str
    product: str
    default_base_url: str | None

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Send exactly one request and return its results, best first.

        Raises:
            CallError: by type what went wrong; nothing of the engine's text is in the message.
        """
        ...
