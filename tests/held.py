"""A search engine that answers when a test lets it: what happens meanwhile depends on no clock."""

from __future__ import annotations

import asyncio

from llm_common.search import Endpoint, SearchQuery, SearchResult, ZaiSearch


class Held(ZaiSearch):
    """The default engine, over HTTP as ever, once it may.

    Attributes:
        may_answer: set at first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Wait, then search."""
        await self.may_answer.wait()
        return await super().search(query, endpoint, timeout_s=timeout_s)
