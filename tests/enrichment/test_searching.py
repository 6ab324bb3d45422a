"""Searches through the client that caches and pays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from llm_common import CostTracker, WebSearchClient
from llm_common.enrichment.searching import WebSearchService
from llm_common.errors import BadRequestError, BudgetExceededError
from llm_common.testing import CorpusDocument, Fault, ProviderServer


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [
        CorpusDocument(
            "John Smith", "https://a.gov/smith", "John Smith of California", "2026-01-02"
        ),
        CorpusDocument("Al Bo", "https://b.org/bo", "Al Bo of Texas"),
    ]


@pytest.fixture
def client(fake: ProviderServer, costs: CostTracker) -> WebSearchClient:
    return WebSearchClient(engine="serper", cost_tracker=costs)


async def test_every_result_says_which_query_found_it(
    fake: ProviderServer, client: WebSearchClient
) -> None:
    found = await WebSearchService(client).search(["Smith California", "Bo Texas", "Bo Texas"])
    assert len(fake.requests) == 2
    first = next(result for result in found if result["query"] == "Smith California")
    assert (first["url"], first["title"]) == ("https://a.gov/smith", "John Smith")
    assert "John Smith" in first["snippet"]
    assert {result["query"] for result in found} == {"Smith California", "Bo Texas"}
    assert await WebSearchService(client).search([]) == []


async def test_one_failure_does_not_lose_the_others(
    fake: ProviderServer, client: WebSearchClient
) -> None:
    fake.script(Fault.status(400))
    found = await WebSearchService(client).search(["Smith California", "Bo Texas"])
    assert len({result["query"] for result in found}) == 1


async def test_all_fail(fake: ProviderServer, client: WebSearchClient) -> None:
    fake.script(Fault.status(400), Fault.status(400))
    with pytest.raises(BadRequestError):
        await WebSearchService(client).search(["Smith California", "Bo Texas"])


async def test_no_money_left(
    fake: ProviderServer, client: WebSearchClient, costs: CostTracker
) -> None:
    costs.limit("project", "test", "total", "0.0000001")
    with pytest.raises(BudgetExceededError):
        await WebSearchService(client).search(["Smith California"])
    assert not fake.requests
