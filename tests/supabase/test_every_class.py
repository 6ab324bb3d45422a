"""Every public class over a Supabase client, sync and async, as a host without a URL uses it."""

from __future__ import annotations

import ast
import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import llm_common
from llm_common import (
    AnalysisPipeline,
    BillAnalysis,
    BudgetExceededError,
    ConversationMemory,
    CostMetrics,
    CostTracker,
    EnrichmentPipeline,
    InsufficientEvidenceError,
    LLMClient,
    LLMCommonError,
    LLMResponse,
    LLMTask,
    ReviewCritique,
    Rollout,
    SearchResult,
    WebSearchClient,
    admin,
)
from llm_common.database import connect
from llm_common.enrichment import EnrichmentRequest, PipelineConfig
from llm_common.errors import BadRequestError, JobStateError
from llm_common.limits import Gate, Shared
from llm_common.limits.meter import Meter
from llm_common.prompts import Prompt
from llm_common.research import FinanceSearchService, LegislationSearchService
from llm_common.rollout import commands
from llm_common.testing import Answer, CorpusDocument, Fault, ProviderServer
from llm_common.types import Lane, RateLimits, Usage
from tests.analysis.conftest import (
    NOTE,
    QUERIES,
    SUBJECT,
    asked,
    asks,
    draft,
    impact,
    review,
)
from tests.children import until
from tests.support import within_a_minute

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]
BEDS = "open a winter shelter with no fewer than two hundred beds"
RAISES = "raises 4.2 million dollars each year"


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [CorpusDocument("Fiscal note", "https://kern.example/fiscal-note", NOTE, "2026-10-01")]


@pytest.fixture
async def costs(supabase: Any, project: str) -> AsyncIterator[CostTracker]:
    tracker = CostTracker(supabase_client=supabase)
    yield tracker
    await tracker.aclose()


def today() -> Any:
    return datetime.now(UTC).date()


async def test_calls_are_paid_recorded_and_summed(
    fake: ProviderServer, costs: CostTracker, project: str
) -> None:
    llm = LLMClient("openai", cost_tracker=costs)
    fake.script(Answer(text="Kern."))
    response = await llm.complete(MESSAGES, model="gpt-4o", step="ask", user="u1")
    assert isinstance(response, LLMResponse)
    assert response.text == "Kern."
    assert response.cost_usd == fake.invoice.total_usd
    assert await llm.chat(MESSAGES, task=LLMTask.CHAT)
    async with llm.stream(MESSAGES, model="gpt-4o") as stream:
        assert [delta async for delta in stream]
    await llm.embed(["a", "b"], model="text-embedding-3-small")
    day, paid = today(), fake.invoice.total_usd
    await costs.log_cost(CostMetrics(model="elsewhere", step="old", cost_usd=Decimal("0.25")))
    assert await costs.get_daily_cost(day) == paid + Decimal("0.25")
    assert await costs.get_monthly_cost(day.year, day.month) == paid + Decimal("0.25")
    lines = await costs.get_cost_breakdown(day, day, group_by="model")
    assert sum(line.total_cost for line in lines) == paid + Decimal("0.25")
    assert {line.key for line in lines} >= {"gpt-4o", "elsewhere"}
    users = await costs.get_cost_breakdown(day, day, group_by="user")
    assert {line.key: line.calls for line in users}["u1"] == 1


async def test_a_budget_refuses_and_alerts(
    fake: ProviderServer, supabase: Any, project: str
) -> None:
    costs = CostTracker(
        supabase_client=supabase, daily_budget_usd="0.05", monthly_budget_usd=1, alert_threshold=0.7
    )
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    # About a cent each.
    fake.script(*[Answer(text="Kern.", usage=Usage(input_tokens=9, output_tokens=990))] * 9)
    with pytest.raises(BudgetExceededError) as refused:
        for _ in range(9):
            await llm.chat(MESSAGES, max_tokens=1000)
    assert isinstance(refused.value, LLMCommonError)
    sent = len(fake.requests)
    with pytest.raises(BudgetExceededError):
        await llm.chat(MESSAGES, max_tokens=1000)
    assert len(fake.requests) == sent > 0
    await costs.flush()
    daily, monthly = sorted(await costs.get_budgets(), key=lambda budget: budget.limit_usd)
    assert daily.spent_usd == monthly.spent_usd == fake.invoice.total_usd <= daily.limit_usd
    raised = await admin.alerts(costs.db, project)
    assert ("threshold", "0.5") in {(a.body["kind"], a.body["threshold"]) for a in raised}
    found = await admin.reconcile(costs.db, project, today(), today())
    assert found.differences == ()
    await costs.aclose()


async def test_the_same_question_is_paid_for_once(fake: ProviderServer, costs: CostTracker) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    first = await llm.complete(MESSAGES, cache_ttl_s=60)
    again = await llm.complete(MESSAGES, cache_ttl_s=60)
    assert (first.cached, again.cached, again.text) == (False, True, first.text)
    assert len(fake.requests) == 1
    assert await costs.get_daily_cost() == fake.invoice.total_usd


async def test_a_search_is_paid_for_once(
    fake: ProviderServer, supabase: Any, costs: CostTracker, project: str
) -> None:
    for wanted in (0, 1):
        # Nothing of the first client's memory is the second's.
        search = WebSearchClient(
            supabase_client=supabase, cost_tracker=costs, memory_cache_ttl=0, db_cache_ttl=86_400
        )
        (result,) = await search.search("Kern winter shelter levy")
        assert isinstance(result, SearchResult)
        assert result.url == "https://kern.example/fiscal-note"
        stats = await search.get_cache_stats()
        assert (stats["total_searches"], stats["cache_hits"]) == (wanted + 1, wanted)
        await search.aclose()
    assert stats["hit_rate"] == 0.5
    assert len(fake.requests) == 1
    report = await admin.search_cache_report(costs.db, project)
    assert sum(line.hits for line in report) == 1


async def test_a_conversation_is_the_users_own(supabase: Any, project: str) -> None:
    mine, theirs = (ConversationMemory(db_client=supabase, user_id=uuid4()) for _ in range(2))
    await mine.save_message("user", "Which bills concern me?")
    await asyncio.gather(*(mine.save_message("assistant", str(n)) for n in range(5)))
    context = await mine.get_context(page="portfolio")
    assert context[0]["role"] == "system"
    assert context[1] == {"role": "user", "content": "Which bills concern me?"}
    assert {message["content"] for message in context[2:]} == set("01234")
    assert await theirs.get_context() == []


def pipeline_of(supabase: Any, costs: CostTracker) -> Any:
    llm = LLMClient("openai", cost_tracker=costs)
    return AnalysisPipeline(llm, WebSearchClient(cost_tracker=costs), costs, supabase)


async def test_an_analysis_is_resumed_and_paid_for_once(
    fake: ProviderServer, supabase: Any, costs: CostTracker, project: str
) -> None:
    fake.script(QUERIES, match=asks("research"))
    fake.script(Fault.status(400), match=asks("generate"))
    with pytest.raises(BadRequestError):
        await pipeline_of(supabase, costs).run(**SUBJECT)
    broken = asked(fake)
    assert (broken["research"], broken["search"]) == (1, 2)
    fake.script(draft(impact(BEDS), impact(RAISES, source="s1")), match=asks("generate"))
    fake.script(review(passed=True), match=asks("review"))
    analysis = await pipeline_of(supabase, costs).run(**SUBJECT)
    assert isinstance(analysis, BillAnalysis)
    assert all(found.verified for found in analysis.impacts)
    # What was done before it broke is not done again.
    assert {**asked(fake), "generate": 0} == {**broken, "generate": 0, "review": 1}
    sent = len(fake.requests)
    assert await pipeline_of(supabase, costs).run(**SUBJECT) == analysis
    assert len(fake.requests) == sent
    assert await costs.get_daily_cost() == fake.invoice.total_usd
    table = supabase.table("pipeline_runs").select("status,review_json,review_passed")
    rows = table.eq("id", str(analysis.run_id)).execute()
    (row,) = (await rows if inspect.isawaitable(rows) else rows).data
    assert (row["status"], row["review_passed"]) == ("completed", True)
    assert ReviewCritique.model_validate(row["review_json"]).passed
    models = await admin.compare_models(costs.db, today(), today())
    assert {model.model for model in models} >= {"gpt-4o", "gpt-4o-mini"}


async def test_too_little_evidence_is_said_and_kept(
    fake: ProviderServer, supabase: Any, costs: CostTracker
) -> None:
    fake.script(Answer(json={"queries": ["nothing of the kind"]}), match=asks("research"))
    thin = {**SUBJECT, "bill_text": "The county shall."}
    with pytest.raises(InsufficientEvidenceError) as first:
        await pipeline_of(supabase, costs).run(**thin)
    with pytest.raises(InsufficientEvidenceError) as again:
        await pipeline_of(supabase, costs).run(**thin)
    assert again.value.run_id == first.value.run_id


async def test_research_cites_and_is_paid_for_once(
    fake: ProviderServer, costs: CostTracker
) -> None:
    search = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    legislation = LegislationSearchService(search, jurisdiction="California")
    first = await legislation.search_exhaustively("AB 9", SUBJECT["bill_text"])
    assert first.results[0].url == "https://kern.example/fiscal-note"
    assert (await FinanceSearchService(search).search_tax_rules("hotel levy", year=2026)).queries
    sent = len(fake.requests)
    again = await legislation.search_exhaustively("AB 9", SUBJECT["bill_text"])
    assert again.results == first.results
    assert len(fake.requests) == sent
    assert await costs.get_daily_cost() == fake.invoice.total_usd
    await search.aclose()


async def test_versions_of_a_prompt_are_compared(
    fake: ProviderServer, costs: CostTracker, project: str
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for version in ("1", "2"):
        await llm.chat(MESSAGES, prompt=Prompt("greet", version, f"text {version}"))
    await costs.flush()
    found = await admin.compare_prompt_versions(costs.db, today(), today(), project=project)
    assert [(row.version, row.calls) for row in found] == [("1", 1), ("2", 1)]


async def test_processes_share_limits_and_cooldowns(supabase: Any, project: str) -> None:
    db, lane = connect(supabase), Lane("lane", "openai/gpt-4o", "openai/gpt-4o KEY")
    gates = [Gate("one"), Gate("two")]
    one, two = (Shared(project, gate) for gate in gates)
    limits, taken = RateLimits(rpm=6, max_concurrent=4), 0
    meters = [Meter("m"), Meter("m")]
    await within_a_minute(10)
    for process, meter in zip((one, two) * 6, meters * 6, strict=True):
        booking = meter.book(limits, 1, time.monotonic())
        taken += await process.take_rate(db, meter, limits, booking, lane) == 0
    assert 0 < taken <= 6
    for process, meter in zip((one, two), meters, strict=True):
        grow = partial(process.grow, db, meter, 4, lane)
        await meter.slots.enter(partial(meter.capacity, 4), time.monotonic() + 60, grow)
    assert 0 < sum(meter.granted or 0 for meter in meters) <= 4
    await one.announce(db, lane, 300)

    async def heard() -> bool:
        # A call waits for a second, no longer, to tell the others or to hear of them.
        await two.refresh(db, alone=False)
        (standing,) = gates[1].standings([lane], 1)
        return 200 < standing.blocked_s <= 300

    await until(heard)


async def test_a_rollout_is_decided_recorded_and_taken_back(
    supabase: Any, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", "0.1")

    async def old() -> str:
        return "old"

    async def new() -> str:
        return "new"

    async def broken() -> str:
        raise RuntimeError("the new code is broken")

    flag = "bill-analysis"
    async with Rollout(flag, supabase_client=supabase) as rollout:
        assert await rollout.run("unit", old=old, new=new) == "old"
        assert rollout.db is not None
        await commands.change(
            rollout.db, project, flag, "set", reason="a test", to=commands.wanted("on")
        )
        await until(lambda: rollout.arm("unit") == "new")
        assert await rollout.run("unit", old=old, new=new) == "new"
        for number in range(5):
            assert await rollout.run(f"unit-{number}", old=old, new=broken) == "old"
        await until(lambda: rollout.force.reason == "rolled_back")
        assert await rollout.run("unit", old=old, new=new) == "old"
    db = connect(supabase)
    (standing,) = await commands.standings(db, project)
    assert standing.state.latched
    decisions = (await commands.log(db, project, flag)).decisions
    assert [decision.action for decision in decisions][:2] == ["roll_back", "set"]


async def test_a_table_is_enriched(fake: ProviderServer, supabase: Any, costs: CostTracker) -> None:
    """One unit at a time a job goes over PostgREST too; many want a Postgres URL."""
    pipeline = EnrichmentPipeline(
        LLMClient("openai", cost_tracker=costs), WebSearchClient(cost_tracker=costs), costs
    )
    request = EnrichmentRequest(keys=("bill",), columns_to_enrich=("cost:number",))  # type: ignore[arg-type]
    config = PipelineConfig(model="gpt-4o-mini", refine_rounds=0, max_parallel_batches=1)
    rows = [{"bill": "no such bill"}, {"bill": ""}]
    result = await pipeline.enrich(rows, request, config)
    assert [row.status.value for row in result.enriched_rows] == ["completed", "skipped"]
    assert result.enriched_rows[0].cells["cost"].reason
    assert (await pipeline.status(result.job_id))["progress"]["completed"] == 1
    with pytest.raises(JobStateError):
        await pipeline.cancel(result.job_id)
    assert (await pipeline.progress(result.job_id)).cost_usd == fake.invoice.total_usd
    await pipeline.aclose()


def test_every_public_class_is_used_here() -> None:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    works = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    used = {n.id for work in works for n in ast.walk(work) if isinstance(n, ast.Name)}
    public = {n for n in llm_common.__all__ if isinstance(getattr(llm_common, n), type)}
    assert public - used == set()
