"""`AnalysisPipeline`: research -> enough? -> generate -> review -> refine and review again.

Each step is durable: what has been paid for is looked up, in this run and in earlier ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar, Unpack, cast, get_args, overload

from pydantic import BaseModel

from ..cost_tracker import CostTracker
from ..database import Database, connect
from ..errors import CallError, InsufficientEvidenceError, InvalidInputError
from ..llm_client import LLMClient
from ..runs import Replay, Run, Unit, find_completed, open_run
from ..web_search import WebSearchClient
from .asking import QUERIES, Asker, Paused, StopHereError, Subject, checked
from .material import found_sources, lack
from .models import BillAnalysis, DraftAnalysis, ReviewCritique, Source
from .preset import BILL, Preset

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

Step = Literal["research", "search", "generate", "review", "refine"]
STEPS: tuple[str, ...] = get_args(Step)
RESULTS_PER_QUERY = 5


class AnalysisPipeline(Generic[D, R]):
    """Analyses of one kind, each a durable run.

    Args:
        llm: asks the models; every call is reserved and recorded through `costs`.
        search: finds the evidence; its cost goes the same way.
        costs: budgets and ledger; its project labels the runs.
        db: where the runs are kept; None means the database of `costs`.
        preset: the kind of analysis; bills by default.
        max_rounds: how often a failed review leads to a refinement and a new review.
    """

    @overload
    def __init__(
        self: AnalysisPipeline[DraftAnalysis, BillAnalysis],
        llm: LLMClient,
        search: WebSearchClient,
        costs: CostTracker,
        db: Any = None,
        *,
        max_rounds: int = 2,
    ) -> None: ...
    @overload
    def __init__(
        self,
        llm: LLMClient,
        search: WebSearchClient,
        costs: CostTracker,
        db: Any = None,
        *,
        preset: Preset[D, R],
        max_rounds: int = 2,
    ) -> None: ...
    def __init__(
        self,
        llm: LLMClient,
        search: WebSearchClient,
        costs: CostTracker,
        db: Any = None,
        *,
        preset: Any = BILL,
        max_rounds: int = 2,
    ) -> None:
        self._llm = llm.with_tracker(costs)
        self._search = search.with_tracker(costs)
        self._costs = costs
        self._db = _database(costs, db)
        self._preset: Preset[D, R] = preset
        self._max_rounds = max_rounds

    async def run(
        self,
        *,
        start_at: Step | None = None,
        replay_from: str | None = None,
        job_id: str | None = None,
        **subject: Unpack[Subject],
    ) -> R:
        """Analyse; a repeated or interrupted run of the same subject takes up what it has.

        Args:
            start_at: execute this step and all after it anew; the earlier ones are looked up.
            replay_from: id of a run whose finished steps are taken, whatever their inputs were.
            job_id: the batch that this run belongs to.

        Raises:
            InsufficientEvidenceError: too little to analyse; nothing was invented.
            RunBusyError: another living process is at this run.
            BudgetError: refused before the wire; what is done is kept.
            CallError, ResponseValidationError: a model failed; what is done is kept.
        """
        analysis = await self._analyse(subject, None, _replay(start_at, replay_from), job_id)
        return cast("R", analysis)

    async def run_until(
        self, stop_after: Step, *, job_id: str | None = None, **subject: Unpack[Subject]
    ) -> Paused | R:
        """Run as far as a step and pause there; a run that ends sooner returns its analysis."""
        _check_step(stop_after)
        return await self._analyse(subject, stop_after, Replay(), job_id)

    async def stored(self, **subject: Unpack[Subject]) -> R | None:
        """Return the analysis of this very subject, if it has been completed."""
        run = await find_completed(self._db, self._unit(checked(subject), None))
        return (
            None if run is None else self._preset.result_model.model_validate(run["analysis_json"])
        )

    def estimate(self, **subject: Unpack[Subject]) -> Decimal | None:
        """Return the most that one round can cost before a refinement, in USD, without paying.

        Searches are left out, and so is what they find. None means that a price is unknown.
        """
        asker = Asker(self._llm, self._preset, checked(subject), None, None)
        return asker.upper_bound()

    async def _analyse(
        self, subject: Subject, stop_after: str | None, replay: Replay, job_id: str | None
    ) -> R | Paused:
        subject = checked(subject)
        try:
            async with open_run(self._db, self._unit(subject, job_id), replay) as run:
                if run.status == "completed":
                    return self._preset.result_model.model_validate(run.stored)
                asker = Asker(self._llm, self._preset, subject, run, stop_after)
                return await self._steps(asker, run)
        except StopHereError as stop:
            return stop.paused

    async def _steps(self, asker: Asker[D, R], run: Run) -> R:
        sources = await self._gather(asker)
        if thin := lack(sources):
            await run.finish(
                "insufficient_evidence", error_class="InsufficientEvidenceError", error_message=thin
            )
            raise InsufficientEvidenceError(f"too little to analyse: {thin}", run_id=run.id)
        draft, review = await self._write(asker, sources)
        result = self._preset.assemble(draft, sources, passed=review.passed, run_id=run.id)
        await run.finish(
            "completed",
            analysis_json=result,
            review_json=review,
            review_passed=review.passed,
            quality_score=self._preset.score(result, review),
            confidence=getattr(result, "confidence", None),
        )
        return result

    async def _gather(self, asker: Asker[D, R]) -> list[Source]:
        """Let the model write queries, search them all at once, and return every source."""
        plan = await asker.plan()
        queries = list(dict.fromkeys(query.strip() for query in plan.queries if query.strip()))
        found = await asyncio.gather(
            *(self._find(asker, query) for query in queries[:QUERIES]), return_exceptions=True
        )
        pages = [page for page in found if not isinstance(page, BaseException)]
        failures = [error for error in found if isinstance(error, BaseException)]
        # One engine failure among several searches is less evidence, not the end.
        for error in failures:
            if not pages or not isinstance(error, CallError):
                raise error
        await asker.pause_after("search", pages)
        return [asker.subject_source, *found_sources(pages)]

    async def _find(self, asker: Asker[D, R], query: str) -> list[dict[str, Any]]:
        async def search(query: str, count: int) -> list[dict[str, Any]]:
            results = await self._search.search(query, count=count)
            return [result.model_dump(mode="json", exclude={"raw"}) for result in results]

        inputs = {"query": query, "count": RESULTS_PER_QUERY}
        return await asker.run_step("search", search, inputs, key=query)

    async def _write(
        self, asker: Asker[D, R], sources: Sequence[Source]
    ) -> tuple[D, ReviewCritique]:
        """Generate and review; refine and review again while the review fails, at most N times."""
        draft = await asker.generate(sources)
        review = await asker.review(self._check(draft, sources), sources, 0)
        for number in range(1, self._max_rounds + 1):
            if review.passed:
                break
            draft = await asker.refine(self._check(draft, sources), review, sources, number)
            review = await asker.review(self._check(draft, sources), sources, number)
        return draft, review

    def _check(self, draft: D, sources: Sequence[Source]) -> R:
        """Check a draft's quotes; without the run's id, so that reviews are shared by runs."""
        return self._preset.assemble(draft, sources, passed=True, run_id="")

    def _unit(self, subject: Subject, job_id: str | None) -> Unit:
        models = subject.get("models", {})
        return Unit(
            project=self._costs.project,
            pipeline=self._preset.name,
            unit_key=subject["bill_id"],
            inputs={**subject, "preset": self._preset.identity, "rounds": self._max_rounds},
            job_id=job_id,
            columns={
                "bill_id": subject["bill_id"],
                "jurisdiction": subject.get("jurisdiction"),
                "research_model": models.get("research", "task:research"),
                "generate_model": models.get("generate", "task:generate"),
                "review_model": models.get("review", "task:review"),
            },
        )


def _database(costs: CostTracker, db: Any) -> Database:
    """Return the database of the runs: the one of `costs`, also where it is named twice."""
    named = costs.db if db is None else connect(db)
    return costs.db if named.identity == costs.db.identity else named


def _check_step(step: str) -> None:
    if step not in STEPS:
        raise InvalidInputError(f"no step {step!r}: use one of {', '.join(STEPS)}")


def _replay(start_at: str | None, replay_from: str | None) -> Replay:
    """A run that starts at a step executes it, and all after it, anew."""
    if start_at is None:
        return Replay(replay_from)
    _check_step(start_at)
    return Replay(replay_from, frozenset(STEPS[STEPS.index(start_at) :]))
