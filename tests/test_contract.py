"""The calls that hosts already write, as written, on both connectors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from llm_common import (
    AnalysisPipeline,
    BillAnalysis,
    ConversationMemory,
    CostMetrics,
    CostTracker,
    LLMClient,
    WebSearchClient,
)
from llm_common.testing import ProviderServer
from tests.postgrest import SupabaseLite

BILL_TEXT = """Section 1. The county shall open shelters for every resident without a home.
Section 2. The cost of each shelter is borne by the state, up to 4,000,000 dollars in a year.
Section 3. Landlords who evict a tenant in winter pay a penalty of 500 dollars for each day.
Section 4. The department of housing reports to the legislature in December how many residents
found a bed, what each bed cost, and which counties had opened no shelter at all by then.
Section 5. Nothing in this act relieves a city of duties under earlier law on emergency housing."""


class Bill(BaseModel):
    title: str


@pytest.fixture(params=["postgres", "supabase", "supabase-async"])
def target(request: pytest.FixtureRequest) -> tuple[str, str | SupabaseLite]:
    """A connector, and the database behind it."""
    wanted = "database_url" if request.param == "postgres" else "supabase_lite"
    return request.param, request.getfixturevalue(wanted)


@pytest.fixture
async def supabase(target: tuple[str, str | SupabaseLite]) -> AsyncIterator[Any]:
    """What a host passes as its database: a URL, or a Supabase client of either kind."""
    from supabase import acreate_client, create_client

    connector, behind = target
    if isinstance(behind, str):
        yield behind
    elif connector == "supabase":
        sync_client = create_client(behind.url, behind.secret_key)
        yield sync_client
        sync_client.postgrest.session.close()
    else:
        client = await acreate_client(behind.url, behind.secret_key)
        yield client
        await client.postgrest.session.aclose()


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> str:
    """A project of the test's own: the database behind the API is shared."""
    name = f"contract-{uuid4()}"
    monkeypatch.setenv("LLM_COMMON_PROJECT", name)
    return name


async def test_the_calls_that_hosts_write(
    fake: ProviderServer, supabase: Any, project: str
) -> None:
    user_id = str(uuid4())
    fake_key = os.environ["ZAI_API_KEY"]
    costs = CostTracker(
        supabase_client=supabase,
        daily_budget_usd=10.0,
        monthly_budget_usd=300.0,
        alert_threshold=0.8,
    )
    llm = LLMClient(provider="openrouter", cost_tracker=costs)
    search = WebSearchClient(
        api_key=fake_key, supabase_client=supabase, memory_cache_ttl=3600, db_cache_ttl=86400
    )
    pipeline = AnalysisPipeline(llm, search, costs, supabase)
    memory = ConversationMemory(db_client=supabase, user_id=user_id, max_history=20)

    messages = [{"role": "user", "content": BILL_TEXT}]
    text = await llm.chat(messages=messages, model="gpt-4o")
    assert isinstance(text, str)
    assert text
    obj = await llm.chat(messages=messages, model="gpt-4o", response_model=Bill)
    assert isinstance(obj, Bill)
    best = await llm.chat_with_fallback(
        messages, models=["gpt-4o", "claude-3.5-sonnet"], response_model=None
    )
    assert best
    results = await search.search("query", count=10, domains=None, recency=None)
    assert results == []
    stats = await search.get_cache_stats()
    assert (stats["hit_rate"], stats["total_searches"], stats["cache_hits"]) == (0.0, 1, 0)
    await costs.log_cost(
        CostMetrics(model="gpt-4o", step="old", cost_usd=Decimal("0.25"), tokens_used=10)
    )
    day = datetime.now(UTC).date()
    before = await costs.get_daily_cost(day)
    assert before == fake.invoice.total_usd + Decimal("0.25")
    assert await costs.get_monthly_cost(day.year, day.month) == before
    models = await costs.get_cost_breakdown(day, day, group_by="model")
    assert sum(line.total_cost for line in models) == before
    for group in ("step", "project", "user", "task", "day"):
        lines = await costs.get_cost_breakdown(day, day, group_by=group)  # type: ignore[arg-type]
        assert sum(line.total_cost for line in lines) == before
    analysis = await pipeline.run(
        bill_id="AB-1234",
        bill_text=BILL_TEXT,
        jurisdiction="California",
        models={
            "research": "gpt-4o-mini",
            "generate": "gpt-4o",
            "review": "claude-3.5-sonnet",
        },
    )
    assert isinstance(analysis, BillAnalysis)
    assert analysis.confidence > 0.5
    assert all(impact.verified for impact in analysis.impacts)
    assert await costs.get_daily_cost(day) == fake.invoice.total_usd + Decimal("0.25")
    assert await memory.get_context(page="portfolio")
    await memory.save_message("user", "Which bills concern me?")
    assert (await memory.get_context())[-1]["content"] == "Which bills concern me?"
    await costs.aclose()
    await search.cost_tracker.aclose()


async def test_budgets_and_runs_hold_on_every_connector(
    fake: ProviderServer, supabase: Any, project: str
) -> None:
    costs = CostTracker(supabase_client=supabase, daily_budget_usd="0.05")
    pipeline = AnalysisPipeline(
        LLMClient("openrouter"), WebSearchClient(supabase_client=supabase), costs
    )
    subject: dict[str, Any] = {
        "bill_id": "AB-1",
        "bill_text": BILL_TEXT,
        "models": dict.fromkeys(("research", "generate", "review"), "gpt-4o-mini"),
    }
    first = await pipeline.run(**subject)
    sent = len(fake.requests)
    assert await pipeline.run(**subject) == first
    assert len(fake.requests) == sent
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (fake.invoice.total_usd, 0)
    await costs.aclose()
