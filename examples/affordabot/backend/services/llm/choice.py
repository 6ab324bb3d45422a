"""Which code analyses a bill, as long as there are two. Goes with the old code."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

from llm_common import Rollout
from llm_common.rollout import Shadow

from ...models import Analysis, AnalysisRequest, Bill, Evidence, Impact
from ..research.zai import QUERY_TEMPLATES
from . import orchestrator
from .orchestrator import PROJECT, Desk
from .pipeline import DualModelAnalyzer, LegislationAnalysis

FLAG = "bill-analysis"

# What gpt-4-turbo costs per token and Z.ai per search, in USD; the old code does not count money.
INPUT_USD, OUTPUT_USD = Decimal("0.00001"), Decimal("0.00003")
SEARCH_USD = Decimal("0.01")


@asynccontextmanager
async def open_desk(db: Any) -> AsyncGenerator[Desk]:
    """Lend the clients of this process, with a rollout between the old code and the new."""
    dual = DualModelAnalyzer()
    rollout = Rollout(FLAG, db=db, project=PROJECT, shadow=Shadow(compare=difference))
    async with orchestrator.open_desk(db) as desk, rollout:

        async def analyze(bill: Bill, request: AnalysisRequest) -> Analysis:
            jurisdiction = request.jurisdiction or bill.jurisdiction
            chosen = await rollout.run(
                bill.id,
                old=partial(run_old, dual, bill, request),
                new=partial(desk.analyze, bill, request),
                attributes={"jurisdiction": jurisdiction},
                columns={"bill_id": bill.id, "jurisdiction": jurisdiction},
                old_cost=cost_of,
            )
            return chosen if isinstance(chosen, Analysis) else shown(bill, chosen)

        try:
            yield replace(desk, analyze=analyze)
        finally:
            await dual.close()


async def run_old(
    dual: DualModelAnalyzer, bill: Bill, request: AnalysisRequest
) -> LegislationAnalysis:
    """Analyze with the old code."""
    return await dual.analyze(
        bill_text=bill.text,
        bill_number=bill.id,
        jurisdiction=request.jurisdiction or bill.jurisdiction,
        title=bill.title,
        model_override=request.model_override,
    )


def difference(old: LegislationAnalysis, new: Analysis) -> dict[str, int] | None:
    """Compare what was served with what the new code would have: the number of impacts."""
    if len(old.impacts) == len(new.impacts):
        return None
    return {"impacts_old": len(old.impacts), "impacts_new": len(new.impacts)}


def cost_of(written: LegislationAnalysis) -> Decimal:
    """Return about what the old code has spent on an analysis, in USD."""
    searches = len(QUERY_TEMPLATES) * SEARCH_USD
    return searches + written.prompt_tokens * INPUT_USD + written.completion_tokens * OUTPUT_USD


def shown(bill: Bill, written: LegislationAnalysis) -> Analysis:
    """Return an analysis of the old code as the admin pages show it."""
    impacts = [
        Impact(
            title=impact.title,
            description=impact.description,
            evidence=[Evidence(quote=impact.evidence)] if impact.evidence else [],
            confidence=impact.confidence,
        )
        for impact in written.impacts
    ]
    confidences = [impact.confidence for impact in impacts]
    return Analysis(
        bill_id=bill.id,
        summary=written.summary,
        impacts=impacts,
        confidence=sum(confidences) / len(confidences) if confidences else 0.0,
        written_by="dual-model",
    )
