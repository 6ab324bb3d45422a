"""What the admin pages send and get, whichever code wrote it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Bill(BaseModel):
    """A row of the table `bills`."""

    id: str
    jurisdiction: str
    title: str
    text: str


class AnalysisRequest(BaseModel):
    """The body of POST /analyze."""

    bill_id: str
    jurisdiction: str | None = None
    model_override: str | None = None


class Evidence(BaseModel):
    """Words that bear an impact out, and where they stand."""

    quote: str
    url: str | None = None


class Impact(BaseModel):
    """One way in which a bill changes what people pay."""

    title: str
    description: str
    evidence: list[Evidence]
    confidence: float


class Analysis(BaseModel):
    """An analysis, as the admin pages show it."""

    bill_id: str
    summary: str
    impacts: list[Impact]
    confidence: float
    written_by: Literal["dual-model", "llm_common"]
