"""An application on loopback: real Postgres, real HTTP, and a small world to enrich from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from llm_common import (
    CostTracker,
    EnrichmentPipeline,
    limits,
    providers,
)
from llm_common.database import pool
from llm_common.integrations.fastapi import enrichment_router
from llm_common.search import http as search_http
from tests.enrichment.world import NEVER, Model, Served, World, make_world, serve
from tests.enrichment.world.pipelines import made

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
        limits.forget()
        await providers.aclose()
        await search_http.close()
        await pool.close()


@pytest.fixture
async def costs(database_url: str) -> AsyncIterator[CostTracker]:
    tracker = CostTracker(database_url, project=PROJECT)
    yield tracker
    await tracker.aclose()


@pytest.fixture
async def pipeline(served: Served, costs: CostTracker) -> AsyncIterator[EnrichmentPipeline]:
    async with made(served, costs) as it:
        yield it


@pytest.fixture
def app(pipeline: EnrichmentPipeline) -> FastAPI:
    it = FastAPI()
    it.include_router(enrichment_router(pipeline, authorize=authorize, max_upload_bytes=2_000_000))
    return it


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[Api]:
    async with running(app) as api:
        yield api
