"""Tavily: POST /search.

https://docs.tavily.com/documentation/api-reference/endpoint/search
"""

from __future__ import annotations

from typing import Any

from .base import Endpoint, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import SNIPPET, Entry, number, ranked, text

MOST = 20
_RECENCY = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}


class TavilySearch:
    """The engine, in its `basic` depth, which costs one credit."""

    name = "tavily"
    product = "search"
    default_base_url: str | None = "https://api.tavily.com"

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        body: dict[str, Any] = {
            "query": query.query,
            "search_depth": "basic",
            "max_results": min(query.count, MOST),
        }
        if query.domains:
            body["include_domains"] = list(query.domains)
        if query.recency:
            body["time_range"] = _RECENCY[query.recency]
        request = Request(
            self.name,
            at(endpoint.base_url, "/search"),
            {"Authorization": f"Bearer {endpoint.key}"},
            body,
        )
        answer = await ask(request, timeout_s)
        return ranked(self.name, listed(self.name, answer, "results"), "url", _fields)


def _fields(raw: Entry) -> dict[str, Any]:
    content = text(raw.get("content"))
    return {
        "snippet": content[:SNIPPET],
        "content": content or None,
        "published_date": text(raw.get("published_date")) or None,
        "score": number(raw.get("score")),
    }
