"""What an analysis and its review consist of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["verified", "repaired", "unverified"]


class Quote(BaseModel):
    """Words of a source, as the model copied them."""

    quote: str = Field(description="copied word for word from the source")
    source_id: str = Field(description="id of the source that the quote stands in")


class DraftImpact(BaseModel):
    """An impact as the model wrote it."""

    title: str = Field(description="the impact in a few words")
    description: str = Field(description="who is affected, and how")
    evidence: list[Quote] = Field(min_length=1)
    confidence: float = Field(ge=0, le=1)


class DraftAnalysis(BaseModel):
    """An analysis as the model wrote it, before its quotes are checked."""

    summary: str
    impacts: list[DraftImpact]


class ReviewCritique(BaseModel):
    """What the review found."""

    passed: bool
    critique: str
    missing_impacts: list[str] = []
    factual_errors: list[str] = []


class ResearchPlan(BaseModel):
    """The queries that the research will search for."""

    queries: list[str] = Field(min_length=1)


class Source(BaseModel):
    """A text that the analysis may quote: the bill itself, or something that a search found."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    url: str | None = None
    text: str = Field(repr=False)


class SourceReference(BaseModel):
    """A source without its text, and how many of the analysis's quotes it bears out."""

    id: str
    title: str
    url: str | None = None
    quotes: int = 0


class Evidence(BaseModel):
    """A quote with the verdict that code reached by comparing it with the source.

    `quote` is what the source says: for ``repaired`` the source's words replace the model's.
    """

    quote: str
    source_id: str
    url: str | None = None
    verdict: Verdict


class Impact(BaseModel):
    """An impact with checked evidence.

    `verified` is whether at least one quote was found in a source; `confidence` (0 to 1) is the
    model's own, scaled by the part of its quotes that was found.
    """

    title: str
    description: str
    evidence: list[Evidence]
    confidence: float
    verified: bool


class BillAnalysis(BaseModel):
    """The analysis of a bill.

    Attributes:
        confidence: 0 to 1, by `scoring.confidence`.
        run_id: the row in `pipeline_runs`; its steps and ledger rows carry it.
    """

    summary: str
    impacts: list[Impact]
    confidence: float
    sources: list[SourceReference]
    run_id: str
