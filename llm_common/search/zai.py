"""Z.ai's web search: POST /api/paas/v4/web_search."""

from __future__ import annotations

from typing import Any

from ..errors import QuotaExhaustedError
from .base import Endpoint, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import SNIPPET, Entry, ranked, text

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
        request = Request(
            self.name,
            at(endpoint.base_url, "/web_search"),
            {"Authorization": f"Bearer {endpoint.key}"},
            body,
            # The account is in arrears: it says so with a 429.
            codes={'"1113"': QuotaExhaustedError},
        )
        answer = await ask(request, timeout_s)
        return ranked(self.name, listed(self.name, answer, "search_result"), "link", _fields)


def _fields(raw: Entry) -> dict[str, Any]:
    content = raw.get("content") if isinstance(raw.get("content"), str) else ""
    return {
        "snippet": str(content)[:SNIPPET],
        "content": content or None,
        "published_date": text(raw.get("publish_date")) or None,
    }
