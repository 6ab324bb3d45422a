"""Serper: Google results by POST /search."""

from __future__ import annotations

from typing import Any

from .base import Endpoint, SearchQuery, SearchResult
from .http import listed, post_json

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
        body: dict[str, Any] = {"q": _on_sites(query), "num": query.count}
        if query.recency:
            body["tbs"] = _RECENCY[query.recency]
        headers = {"X-API-KEY": endpoint.key}
        url = f"{endpoint.base_url.rstrip('/')}/search"
        answer = await post_json(self.name, url, headers, body, timeout_s)
        results = [r for r in listed(self.name, answer, "organic") if r.get("link")]
        return [_result(rank, r) for rank, r in enumerate(results, 1)]


def _on_sites(query: SearchQuery) -> str:
    sites = " OR ".join(f"site:{domain}" for domain in query.domains)
    if not sites:
        return query.query
    return f"{query.query} ({sites})" if len(query.domains) > 1 else f"{query.query} {sites}"


def _result(rank: int, raw: dict[str, Any]) -> SearchResult:
    return SearchResult(
        title=str(raw.get("title") or raw["link"]),
        url=str(raw["link"]),
        snippet=str(raw.get("snippet") or ""),
        published_date=str(raw.get("date") or "") or None,
        engine="serper",
        rank=rank,
        raw=raw,
    )
