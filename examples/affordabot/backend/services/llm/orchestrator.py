"""Analysis of a bill by llm_common."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from llm_common import AnalysisPipeline, BillAnalysis, CostTracker, LLMClient, WebSearchClient

from ...models import Analysis, AnalysisRequest, Bill, Evidence, Impact

PROJECT = "affordabot"
MODELS = {"research": "gpt-4o-mini", "generate": "gpt-4o", "review": "claude-3.5-sonnet"}


@dataclass(frozen=True)
class Desk:
    """What the admin routes work with."""

    analyze: Callable[[Bill, AnalysisRequest], Awaitable[Analysis]]
    costs: CostTracker
    search: WebSearchClient


@asynccontextmanager
async def open_desk(db: Any) -> AsyncGenerator[Desk]:
    """Lend the clients of this process; `db` is a Supabase client or a Postgres URL."""
    costs = CostTracker(
        db,
        project=PROJECT,
        daily_budget_usd=os.getenv("DAILY_BUDGET_USD", "10"),
        monthly_budget_usd=os.getenv("MONTHLY_BUDGET_USD", "300"),
    )
    search = WebSearchClient(cost_tracker=costs)
    pipeline = AnalysisPipeline(LLMClient("openrouter"), search, costs)

    async def analyze(bill: Bill, request: AnalysisRequest) -> Analysis:
        models = MODELS | {"generate": request.model_override or MODELS["generate"]}
        written = await pipeline.run(
            bill_id=bill.id,
            bill_text=bill.text,
            title=bill.title,
            jurisdiction=request.jurisdiction or bill.jurisdiction,
            models=models,
        )
        return shown(bill, written)

    try:
        yield Desk(analyze, costs, search)
    finally:
        await search.aclose()
        await costs.aclose()


def shown(bill: Bill, written: BillAnalysis) -> Analysis:
    """Return an analysis as the admin pages show it: with the quotes that were found."""
    return Analysis(
        bill_id=bill.id,
        summary=written.summary,
        impacts=[
            Impact(
                title=impact.title,
                description=impact.description,
                evidence=[
                    Evidence(quote=e.quote, url=e.url)
                    for e in impact.evidence
                    if e.verdict != "unverified"
                ],
                confidence=impact.confidence,
            )
            for impact in written.impacts
        ],
        confidence=written.confidence,
        written_by="llm_common",
    )
