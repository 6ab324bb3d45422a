"""Routes of the admin pages."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel

from llm_common import SearchResult

from ..bills import Bills
from ..models import Analysis, AnalysisRequest
from ..services.llm.orchestrator import Desk

router = APIRouter()


class Costs(BaseModel):
    """What was spent today, in USD, and how much the search cache saves."""

    today_usd: Decimal
    by_model: dict[str, Decimal]
    search_cache: dict[str, Any]


class SearchRequest(BaseModel):
    """The body of POST /search."""

    query: str


def bills_of(request: Request) -> Bills:
    """Return the table of bills."""
    return request.app.state.bills


def desk_of(request: Request) -> Desk:
    """Return what analyses."""
    return request.app.state.desk


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """Say that this process answers."""
    return {"status": "ok", "process": os.getpid()}


@router.post("/analyze")
async def analyze(
    request: AnalysisRequest,
    bills: Annotated[Bills, Depends(bills_of)],
    desk: Annotated[Desk, Depends(desk_of)],
) -> dict[str, Analysis]:
    """Analyse a bill of the table."""
    bill = await bills.get(request.bill_id)
    if bill is None:
        raise HTTPException(404, f"no bill {request.bill_id}")
    return {"analysis": await desk.analyze(bill, request)}


@router.post("/search")
async def search(
    request: SearchRequest, desk: Annotated[Desk, Depends(desk_of)]
) -> dict[str, list[SearchResult]]:
    """Search the web, as the analyses do."""
    return {"results": await desk.search.search(request.query, count=5)}


@router.get("/costs")
async def costs(desk: Annotated[Desk, Depends(desk_of)]) -> Costs:
    """Say what was spent today, and on which models."""
    today = datetime.now(UTC).date()
    lines = await desk.costs.get_cost_breakdown(today, today, group_by="model")
    return Costs(
        today_usd=await desk.costs.get_daily_cost(),
        by_model={line.key or "unknown": line.total_cost for line in lines},
        search_cache=dict(await desk.search.get_cache_stats()),
    )
