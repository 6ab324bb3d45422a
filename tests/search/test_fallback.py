"""Engines in an order: what one does not have, the next may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from llm_common.context import labels
from llm_common.cost_tracker import CostTracker
from llm_common.errors import (
    BadRequestError,
    BudgetExceededError,
    MissingKeyError,
    ProviderUnavailableError,
)
from llm_common.search import SerperSearch
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.web_search import WebSearchClient

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

QUERY = "shelter tax Kern"
ORDER = ["serper", "tavily"]


@pytest.fixture
def client(costs: CostTracker) -> WebSearchClient:
    return WebSearchClient(engine=ORDER, cost_tracker=costs)


@pytest.mark.parametrize(
    ("faults", "failed"),
    [
        ([Fault.status(401)], 1),
        ([Fault.status(402)], 1),
        ([Fault.status(403)], 1),
        ([Fault.rate_limit(60)], 1),
        ([Fault.rate_limit()], 1),
        ([Fault.status(500)] * 2, 2),
        ([Fault.status(404)] * 2, 2),
        ([Fault.html()] * 2, 2),
        ([Fault.malformed_json()] * 2, 2),
        ([Answer(json={"other": []})] * 2, 2),
    ],
    ids=str,
)
async def test_a_failure_goes_on_to_the_next_engine(
    fake: ProviderServer,
    client: WebSearchClient,
    ledger: Ledger,
    faults: list[Any],
    failed: int,
) -> None:
    fake.script(*faults, match="serper")
    with labels(step="search"):
        answer = await client.answer(QUERY)
    assert {r.engine for r in answer.results} == {"tavily"}
    assert [r.provider for r in fake.requests] == ["serper"] * failed + ["tavily"]
    rows = await ledger()
    assert [(r["provider"], r["kind"], r["status"], r["attempt_no"]) for r in rows] == [
        *(("serper", "search", "error", n) for n in range(1, failed + 1)),
        ("tavily", "fallback", "ok", failed + 1),
    ]
    assert len({r["operation_id"] for r in rows}) == 1
    assert {(r["step"], r["requested_model"]) for r in rows} == {("search", "search")}
    assert answer.cost_usd == sum(r["cost_usd"] for r in rows) >= Decimal("0.008")


async def test_a_bad_request_does_not(
    fake: ProviderServer, client: WebSearchClient, ledger: Ledger
) -> None:
    fake.script(Fault.status(400))
    with pytest.raises(BadRequestError):
        await client.search(QUERY)
    assert [r.provider for r in fake.requests] == ["serper"]


async def test_a_timeout_goes_on(fake: ProviderServer, costs: CostTracker, ledger: Ledger) -> None:
    class Slow(SerperSearch):
        async def search(self, query: Any, endpoint: Any, *, timeout_s: float) -> Any:
            return await super().search(query, endpoint, timeout_s=1.0)

    fake.script(Fault.timeout(60), Fault.timeout(60), match="serper")
    client = WebSearchClient(engine=[Slow(), "tavily"], cost_tracker=costs)
    assert {r.engine for r in await client.search(QUERY)} == {"tavily"}
    # Whoever was silent may have charged for it.
    assert [(r["status"], r["cost_usd"]) for r in await ledger()] == [
        ("error", Decimal("0.001")),
        ("error", Decimal("0.001")),
        ("ok", Decimal("0.008")),
    ]


async def test_all_of_them_fail(fake: ProviderServer, client: WebSearchClient) -> None:
    fake.script(Fault.status(401), match="serper")
    fake.script(*[Fault.status(500)] * 2, match="tavily")
    with pytest.raises(ProviderUnavailableError) as caught:
        await client.search(QUERY)
    assert caught.value.provider == "tavily"
    assert len(fake.requests) == 3
    assert len(await client.search(QUERY)) == 3


async def test_the_answer_of_a_list_is_the_lists(
    fake: ProviderServer, client: WebSearchClient, costs: CostTracker
) -> None:
    fake.script(Fault.status(401), match="serper")
    await client.search(QUERY)
    assert {r.engine for r in await client.search(QUERY)} == {"tavily"}
    assert len(fake.requests) == 2
    for other in (["tavily", "serper"], "serper", "tavily"):
        await WebSearchClient(engine=other, cost_tracker=costs).search(QUERY)
    assert len(fake.requests) == 5
    stats = await client.get_cache_stats()
    assert (stats["paid_searches"], stats["cache_hits"], stats["entries"]) == (4, 1, 4)


async def test_a_budget_is_no_reason_to_go_on(
    fake: ProviderServer, db: Any, ledger: Ledger
) -> None:
    costs = CostTracker(db, daily_budget_usd="0.005")
    client = WebSearchClient(engine=["tavily", "serper"], cost_tracker=costs)
    with pytest.raises(BudgetExceededError):
        await client.search(QUERY)
    assert fake.requests == []


async def test_every_engine_of_a_list_needs_its_key(
    fake: ProviderServer, client: WebSearchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY")
    with pytest.raises(MissingKeyError, match="set TAVILY_API_KEY"):
        await client.search(QUERY)
    assert fake.requests == []


async def test_the_free_one_may_come_last(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    client = WebSearchClient(engine=["brave", "searxng"], cost_tracker=costs)
    fake.script(Fault.status(401), match="brave")
    answer = await client.answer(QUERY)
    assert (answer.cost_usd, {r.engine for r in answer.results}) == (0, {"searxng"})
    assert [r["cost_usd"] for r in await ledger()] == [0, 0]
