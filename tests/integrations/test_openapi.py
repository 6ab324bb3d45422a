"""What OpenAPI says of the routes is so: schemathesis tries all that it can think of."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from llm_common import CostTracker, EnrichmentPipeline, LLMClient, WebSearchClient
from llm_common.database import pool
from llm_common.enrichment import Components, EnrichmentRequest
from llm_common.enrichment.interfaces import SearchService, WebCrawler
from llm_common.integrations.fastapi import enrichment_router
from llm_common.review import reviews
from tests.servers import Server

from .serving import HEADERS, authorize, running
from .test_reviews import Wrong

PROJECT = "openapi"
REQUEST = EnrichmentRequest.model_validate({"keys": ["name"], "columns_to_enrich": ["party"]})


class Found(SearchService):
    """Finds one page for everybody."""

    async def search(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        return [{"url": "https://a.example/", "title": "A", "snippet": query} for query in queries]


class Nothing(WebCrawler):
    """Fetches nothing."""

    async def crawl(self, urls: Sequence[str], config: Any) -> list[dict[str, Any]]:
        return []


class Running:
    """The application in a thread of its own, with a job that is over.

    Attributes:
        jobs, reviews: ids that there are.
    """

    url = ""
    jobs: list[str]
    reviews: list[str]

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(150)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        costs = CostTracker(self._database_url, project=PROJECT)
        parts = Components(search_service=Found(), crawler=Nothing(), enricher=Wrong())
        llm = LLMClient("openai", api_key="none", cost_tracker=costs)
        search = WebSearchClient("none", engine="serper", cost_tracker=costs)
        pipeline = EnrichmentPipeline(llm, search, costs, components=parts)
        rows = [{"name": f"person {n}"} for n in range(30)]
        self.jobs = [(await pipeline.enrich(rows, REQUEST)).job_id]
        self.reviews = [one.id async for one in reviews(costs.db, PROJECT)]
        app = FastAPI()
        app.include_router(enrichment_router(pipeline, authorize=authorize))
        async with running(app) as api:
            self.url = f"http://127.0.0.1:{api.port}"
            self._up.set()
            await self._ended.wait()
        await pipeline.aclose()
        await costs.aclose()
        await pool.close()


@pytest.fixture(scope="module")
def application(server: Server, template: str) -> Iterator[Running]:
    with server.database(template) as url:
        it = Running(url)
        it.start()
        yield it
        it.stop()


def documented() -> Any:
    """Return what the routes say of themselves; nobody has to be there for it."""
    app = FastAPI()
    nobody: Any = None
    app.include_router(enrichment_router(nobody, authorize=authorize))
    # A table is more than its schema can say: its keys are columns of it, its file a table; and a
    # correction is of its column's type.
    statuses = ["2xx", "401", "404", "409", "422"]
    checks = {"positive_data_acceptance": {"expected-statuses": statuses}}
    names = ("POST /enrichment/jobs", "POST /enrichment/reviews/{review_id}/correct")
    special = [{"include-name": name, "checks": checks} for name in names]
    config = SchemathesisConfig.from_dict({"headers": HEADERS, "operations": special, "seed": 1})
    return schemathesis.openapi.from_dict(app.openapi(), config=config)


schema = documented()


@schema.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_route_does_what_is_said_of_it(case: Any, application: Running) -> None:
    known = {"job_id": application.jobs, "review_id": application.reviews}
    for name, given in dict(case.path_parameters).items():
        # Every other time, there is such a thing.
        if case.meta.generation.mode is GenerationMode.POSITIVE and len(given) % 2:
            case.path_parameters[name] = known[name][len(given) % len(known[name])]
    case.call_and_validate(base_url=application.url, headers=HEADERS)
