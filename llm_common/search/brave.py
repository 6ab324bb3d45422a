"""Brave: GET /res/v1/web/search.

https://api-dashboard.search.brave.com/app/documentation/web-search/query
"""

from __future__ import annotations

from typing import Any

from ..errors import AuthenticationError, QuotaExhaustedError
from .base import Endpoint, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import Entry, on_sites, ranked, text, texts

MOST = 20
_RECENCY = {"1d": "pd", "1w": "pw", "1m": "pm", "1y": "py"}


class BraveSearch:
    """The engine."""

    name = "brave"
    product = "search"
    default_base_url: str | None = "https://api.search.brave.com/res/v1"

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        params: dict[str, Any] = {
            "q": on_sites(query),
            "count": min(query.count, MOST),
            "result_filter": "web",
            # Else snippets come with <strong> around the words that were found.
            "text_decorations": "false",
        }
        if query.recency:
            params["freshness"] = _RECENCY[query.recency]
        request = Request(
            self.name,
            at(endpoint.base_url, "/web/search"),
            {"X-Subscription-Token": endpoint.key, "Accept": "application/json"},
            params=params,
            # A refused key is a 422, a spent month a 429.
            codes={
                "SUBSCRIPTION_TOKEN_INVALID": AuthenticationError,
                "QUOTA_LIMITED": QuotaExhaustedError,
            },
        )
        answer = await ask(request, timeout_s)
        # A search that found nothing has no part `web`.
        nothing = answer.get("type") == "search" and "web" not in answer
        entries = [] if nothing else listed(self.name, answer.get("web"), "results")
        return ranked(self.name, entries, "url", _fields)


def _fields(raw: Entry) -> dict[str, Any]:
    return {
        "snippet": text(raw.get("description")),
        "content": "\n".join(texts(raw.get("extra_snippets"))) or None,
        "published_date": text(raw.get("page_age") or raw.get("age")) or None,
    }
