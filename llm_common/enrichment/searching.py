"""Searches of an enrichment, through a client that caches and pays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..errors import BudgetError, CallError
from ..web_search import WebSearchClient
from .interfaces import SearchService

AT_ONCE = 4


class WebSearchService(SearchService):
    """Searches through a `WebSearchClient`.

    Args:
        count: results of one query.
    """

    def __init__(self, client: WebSearchClient, *, count: int = 8) -> None:
        self._client = client
        self._count = count

    async def search(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        """Return the results of all queries, in their order; a failure does not lose the others.

        Raises:
            CallError, BudgetError: every query failed, and so did the first of them.
        """
        once = list(dict.fromkeys(queries))
        room = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(*(self._one(query, room) for query in once))
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if failures and len(failures) == len(answers):
            raise failures[0]
        return [result for answer in answers if isinstance(answer, list) for result in answer]

    async def _one(
        self, query: str, room: asyncio.Semaphore
    ) -> list[dict[str, Any]] | CallError | BudgetError:
        async with room:
            try:
                found = await self._client.search(query, self._count)
            except (CallError, BudgetError) as error:
                return error
        return [
            {
                "url": result.url,
                "title": result.title,
                "snippet": result.snippet or result.content or "",
                "query": query,
                "published_date": result.published_date,
            }
            for result in found
        ]
