"""Research for a bill by Z.ai's web search."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import httpx

logger = logging.getLogger("affordabot.research")

ZAI_URL = "https://api.z.ai/api/paas/v4"
RESULTS_PER_QUERY = 5
MAX_RETRIES = 3
RETRY_DELAY = 1.0

QUERY_TEMPLATES = [
    "{title} fiscal note cost estimate",
    "{title} impact on households",
    "{title} opposition criticism",
]


class ZaiResearchService:
    """Searches the web for what is said about a bill."""

    def __init__(self, api_key: str | None = None, base_url: str | None = None) -> None:
        self.api_key = api_key or os.getenv("ZAI_API_KEY", "")
        self.base_url = base_url or os.getenv("ZAI_BASE_URL", ZAI_URL)
        self.client = httpx.AsyncClient(timeout=30.0)
        # Saves repeated searches until the process is restarted.
        self._cache: dict[str, list[dict[str, Any]]] = {}

    async def research_bill(self, title: str) -> list[dict[str, Any]]:
        """Return what was found for all queries, one result per address."""
        queries = [template.format(title=title) for template in QUERY_TEMPLATES]
        found = await asyncio.gather(*[self.search(query) for query in queries])
        results = []
        seen = set()
        for hits in found:
            for hit in hits:
                if hit["url"] and hit["url"] not in seen:
                    seen.add(hit["url"])
                    results.append(hit)
        return results

    async def search(self, query: str) -> list[dict[str, Any]]:
        """Search once; an engine that fails finds nothing."""
        if query in self._cache:
            return self._cache[query]
        for attempt in range(MAX_RETRIES):
            try:
                response = await self.client.post(
                    f"{self.base_url}/web_search",
                    headers={"Authorization": f"Bearer {self.api_key}"},
                    json={
                        "search_engine": "search-prime",
                        "search_query": query,
                        "count": RESULTS_PER_QUERY,
                    },
                )
                response.raise_for_status()
                results = self._parse(response.json())
            except (httpx.HTTPError, ValueError):
                logger.warning("search failed, attempt %d", attempt + 1)
                await asyncio.sleep(RETRY_DELAY * (attempt + 1))
            else:
                self._cache[query] = results
                return results
        return []

    def _parse(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "title": item.get("title") or "",
                "url": item.get("link") or "",
                "snippet": item.get("content") or "",
            }
            for item in body.get("search_result") or []
        ]

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
