"""What makes the pipeline analyse one kind of thing: its prompts and its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from ..prompts import Prompt, shipped
from .checking import assemble_bill
from .models import BillAnalysis, DraftAnalysis, ReviewCritique, Source
from .scoring import quality


class Analysis(Protocol):
    """What every result has, whatever it analyses."""

    @property
    def confidence(self) -> float:
        """Overall confidence, 0 to 1."""
        ...

    def model_dump(self, *, mode: str = ...) -> dict[str, object]:
        """The result as plain values."""
        ...


D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)


class Assemble(Protocol[D, R]):  # type: ignore[misc]
    """Checks a draft's quotes against the sources and makes the result of them."""

    def __call__(self, draft: D, sources: Sequence[Source], *, passed: bool, run_id: str) -> R:
        """Return the result."""
        ...


class Score(Protocol[R]):  # type: ignore[misc]
    """Scores a result after its review, 0 to 1."""

    def __call__(self, result: R, review: ReviewCritique, /) -> Decimal:
        """Return the score."""
        ...


@dataclass(frozen=True, slots=True)
class Prompts:
    """One template for each step that asks a model.

    `research` has the slots title, jurisdiction, count and material; `generate` title,
    jurisdiction and material; `review` those and analysis; `refine` those and review.
    """

    research: Prompt
    generate: Prompt
    review: Prompt
    refine: Prompt


@dataclass(frozen=True, slots=True)
class Preset(Generic[D, R]):
    """A kind of analysis.

    Attributes:
        name: of the pipeline, in rows and logs.
        prompts: what the models are asked.
        draft_model: what the model writes.
        result_model: what the pipeline returns.
        assemble: from the first to the second.
        score: `quality_score` of the run.
    """

    name: str
    prompts: Prompts
    draft_model: type[D]
    result_model: type[R]
    assemble: Assemble[D, R]
    score: Score[R]

    @property
    def identity(self) -> list[object]:
        """What a result depends on beside its subject: the prompts, and the shapes of answers."""
        prompts = self.prompts
        asked = (prompts.research, prompts.generate, prompts.review, prompts.refine)
        shapes = (self.draft_model, self.result_model)
        return [[prompt.hash for prompt in asked], [m.model_json_schema() for m in shapes]]


BILL: Preset[DraftAnalysis, BillAnalysis] = Preset(
    name="bill-analysis",
    prompts=Prompts(
        research=shipped("bill_research", "1"),
        generate=shipped("bill_generate", "1"),
        review=shipped("bill_review", "1"),
        refine=shipped("bill_refine", "1"),
    ),
    draft_model=DraftAnalysis,
    result_model=BillAnalysis,
    assemble=assemble_bill,
    score=quality,
)
"""Bills: their impacts on those who must live with them."""
