"""Exa: POST /search.

https://exa.ai/docs/reference/search
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

from ..errors import QuotaExhaustedError
from .base import Endpoint, Found, SearchQuery, SearchResult
from .http import Request, ask, at, listed
from .normal import SNIPPET, Entry, number, oldest, ranked, text, texts

MOST = 10
"""What the price of a request includes; every further result is billed by itself."""


class ExaSearch:
    """The engine; its answers say what they cost."""

    name = "exa"
    product = "search"
    default_base_url: str | None = "https://api.exa.ai"

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Search; see `SearchEngine.search`."""
        body: dict[str, Any] = {
            "query": query.query,
            "type": "auto",
            "numResults": min(query.count, MOST),
            # Passages that fit the query; included in the price, as whole pages would be.
            "contents": {"highlights": True},
        }
        if query.domains:
            body["includeDomains"] = list(query.domains)
        if first := oldest(query, datetime.now(UTC).date()):
            body["startPublishedDate"] = f"{first.isoformat()}T00:00:00.000Z"
        request = Request(
            self.name,
            at(endpoint.base_url, "/search"),
            {"x-api-key": endpoint.key},
            body,
            codes={
                "NO_MORE_CREDITS": QuotaExhaustedError,
                "API_KEY_BUDGET_EXCEEDED": QuotaExhaustedError,
            },
        )
        answer = await ask(request, timeout_s)
        found = Found(ranked(self.name, listed(self.name, answer, "results"), "url", _fields))
        found.cost_usd = _cost(answer.get("costDollars"))
        return found


def _cost(named: object) -> Decimal | None:
    total = cast("dict[str, object]", named).get("total") if isinstance(named, dict) else None
    usd = number(total)
    # The shortest decimal of the float is the number that Exa wrote.
    return None if usd is None or usd < 0 else Decimal(repr(usd))


def _fields(raw: Entry) -> dict[str, Any]:
    passages = texts(raw.get("highlights"))
    content = "\n".join(passages) or text(raw.get("text"))
    return {
        "snippet": (passages[0] if passages else content)[:SNIPPET],
        "content": content or None,
        "published_date": text(raw.get("publishedDate")) or None,
        "score": number(raw.get("score")),
    }
