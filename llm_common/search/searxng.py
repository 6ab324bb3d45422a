"""SearXNG, on a host of one's own: GET /search with ``format=json``.

https://docs.searxng.org/dev/search_api.html
"""

from __future__ import annotations

from typing import Any

from ..errors import ProviderUnavailableError
from .base import Endpoint, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import SNIPPET, Entry, number, on_sites, ranked, text

_RECENCY = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}


class SearxngSearch:
    """The engine: it asks other engines, takes no key and costs nothing.

    It has no filter for domains and none for the count: a page of about twenty results is cut.
    An instance answers in JSON only where its settings name that format; else it says 403.
    """

    name = "searxng"
    product = "search"
    default_base_url: str | None = None
    needs_key = False

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        params = {"q": on_sites(query), "format": "json"}
        if query.recency:
            params["time_range"] = _RECENCY[query.recency]
        request = Request(self.name, at(endpoint.base_url, "/search"), params=params)
        answer = await ask(request, timeout_s)
        entries = listed(self.name, answer, "results")
        if not entries and answer.get("unresponsive_engines"):
            # Nobody was asked, so nobody knows that there is nothing.
            problem = f"none of the engines behind {self.name} answered"
            raise ProviderUnavailableError(problem, provider=self.name, status=200)
        return ranked(self.name, entries, "url", _fields)


def _fields(raw: Entry) -> dict[str, Any]:
    content = text(raw.get("content"))
    return {
        "snippet": content[:SNIPPET],
        "content": content or None,
        "published_date": text(raw.get("publishedDate")) or None,
        "score": number(raw.get("score")),
    }
