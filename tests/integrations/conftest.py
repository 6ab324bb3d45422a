"""An application on loopback: real Postgres, real HTTP, and a small world to enrich from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from llm_common import CostTracker, EnrichmentPipeline, LLMClient, WebSearchClient
from llm_common.enrichment import Components
from llm_common.enrichment.fetching import PageCrawler
from llm_common.integrations.fastapi import enrichment_router
from tests.enrichment.world import NEVER, Model, Served, World, make_world, serve

from .serving import Api, authorize, running

PROJECT = "legislators"
COUNT = 6


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(count=COUNT)


@pytest.fixture
async def served(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    async with serve(world, Model(world.seed, NEVER), slow_s=0) as running:
        for name, value in running.providers.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def costs(database_url: str) -> AsyncIterator[CostTracker]:
    tracker = CostTracker(database_url, project=PROJECT)
    yield tracker
    await tracker.aclose()


def made(served: Served, costs: CostTracker, **replaced: Any) -> EnrichmentPipeline:
    crawler = PageCrawler(served.fetcher(), per_host_delay_s=0)
    return EnrichmentPipeline(
        LLMClient("openai", cost_tracker=costs),
        WebSearchClient(engine="serper", cost_tracker=costs),
        costs,
        components=Components(**{"crawler": crawler, **replaced}),
    )


@pytest.fixture
async def pipeline(served: Served, costs: CostTracker) -> AsyncIterator[EnrichmentPipeline]:
    it = made(served, costs)
    yield it
    await it.aclose()


@pytest.fixture
def app(pipeline: EnrichmentPipeline) -> FastAPI:
    it = FastAPI()
    it.include_router(enrichment_router(pipeline, authorize=authorize, max_upload_bytes=2_000_000))
    return it


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[Api]:
    async with running(app) as api:
        yield api
