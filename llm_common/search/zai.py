"""Z.ai's web search: POST /api/paas/v4/web_search."""

from __future__ import annotations

from typing import Any

from .base import Endpoint, SearchQuery, SearchResult
from .http import listed, post_json

_RECENCY = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear", None: "noLimit"}


class ZaiSearch:
    """The engine, and whatever speaks its format under another name."""

    def __init__(
        self,
        name: str = "zai",
        product: str = "web_search",
        default_base_url: str | None = "https://api.z.ai/api/paas/v4",
    ) -> None:
        self.name = name
        self.product = product
        self.default_base_url = default_base_url

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        body: dict[str, Any] = {
            "search_engine": "search-prime",
            "search_query": query.query,
            "count": query.count,
            "search_recency_filter": _RECENCY[query.recency],
        }
        if query.domains:
            body["search_domain_filter"] = ",".join(query.domains)
        headers = {"Authorization": f"Bearer {endpoint.key}"}
        url = f"{endpoint.base_url.rstrip('/')}/web_search"
        answer = await post_json(self.name, url, headers, body, timeout_s)
        results = [r for r in listed(self.name, answer, "search_result") if r.get("link")]
        return [self._result(rank, r) for rank, r in enumerate(results, 1)]

    def _result(self, rank: int, raw: dict[str, Any]) -> SearchResult:
        content = str(raw.get("content") or "")
        return SearchResult(
            title=str(raw.get("title") or raw["link"]),
            url=str(raw["link"]),
            snippet=content[:300],
            content=content or None,
            published_date=str(raw.get("publish_date") or "") or None,
            engine=self.name,
            rank=rank,
            raw=raw,
        )
