"""Serper: Google results by POST /search."""

from __future__ import annotations

from typing import Any

from ..errors import QuotaExhaustedError
from .base import Endpoint, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import Entry, on_sites, ranked, text

_RECENCY = {"1d": "qdr:d", "1w": "qdr:w", "1m": "qdr:m", "1y": "qdr:y"}


class SerperSearch:
    """The engine."""

    name = "serper"
    product = "search"
    default_base_url: str | None = "https://google.serper.dev"

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        body: dict[str, Any] = {"q": on_sites(query), "num": query.count}
        if query.recency:
            body["tbs"] = _RECENCY[query.recency]
        request = Request(
            self.name,
            at(endpoint.base_url, "/search"),
            {"X-API-KEY": endpoint.key},
            body,
            # It says so with a 400.
            codes={"Not enough credits": QuotaExhaustedError},
        )
        answer = await ask(request, timeout_s)
        return ranked(self.name, listed(self.name, answer, "organic"), "link", _fields)


def _fields(raw: Entry) -> dict[str, Any]:
    return {
        "snippet": text(raw.get("snippet")),
        "published_date": text(raw.get("date")) or None,
    }
