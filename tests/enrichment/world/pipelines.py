"""A pipeline over a served world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llm_common import CostTracker, LLMClient, WebSearchClient
from llm_common.enrichment import Components, EnrichmentPipeline
from llm_common.enrichment.fetching import PageCrawler
from tests.enrichment.world.serving import Served


@asynccontextmanager
async def made(
    served: Served, costs: CostTracker, **replaced: Any
) -> AsyncIterator[EnrichmentPipeline]:
    """Lend a pipeline; parts of it may be replaced by name."""
    fetcher = served.fetcher()
    crawler = PageCrawler(fetcher, per_host_delay_s=0)
    pipeline = EnrichmentPipeline(
        LLMClient("openai", cost_tracker=costs),
        WebSearchClient(engine="serper", cost_tracker=costs),
        costs,
        components=Components(**{"crawler": crawler, **replaced}),
    )
    try:
        yield pipeline
    finally:
        await pipeline.aclose()
        await crawler.aclose()
        await fetcher.aclose()
