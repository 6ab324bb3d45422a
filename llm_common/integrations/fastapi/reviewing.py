"""The review queue as routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from ...enrichment import EnrichmentPipeline
from ...enrichment.columns import normal_value
from ...enrichment.reading import PIPELINE, request_of
from ...errors import InvalidInputError
from ...review import Action, Review, State, decide, find_review, reviews
from ...runs import find_job, units_of
from ...types import Frozen
from .answers import ReviewItem, Reviews
from .problems import absent, responses

ReviewId = Annotated[str, Path(max_length=100)]
After = Annotated[int, Query(ge=0, le=2**53, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Note = Annotated[str | None, Field(max_length=5_000)]


class Decision(Frozen):
    """Why it was decided so."""

    note: Note = None


class Correction(Frozen):
    """The right value, of the column's type, and why."""

    value: str | int | float | bool
    note: Note = None


class _Queue:
    """The routes' functions.

    Args:
        pipeline: has the project and its database.
    """

    def __init__(self, pipeline: EnrichmentPipeline) -> None:
        self._pipeline = pipeline

    async def list(
        self,
        job_id: Annotated[str | None, Query(max_length=200)] = None,
        state: Annotated[State | None, Query(description="Any, if left out.")] = None,
        after: After = 0,
        limit: Limit = 50,
    ) -> Reviews:
        """List reviews in the order in which they came."""
        found = [
            one
            async for one in reviews(
                self._pipeline.db,
                self._pipeline.project,
                job_id=job_id,
                state=state,
                after=after,
                limit=limit,
            )
        ]
        items = await self._items(found)
        return Reviews(reviews=items, next=found[-1].place if len(found) == limit else None)

    async def decide(
        self, review_id: str, action: Action, by: Any, note: str | None, value: Any = None
    ) -> ReviewItem:
        found = await self._found(review_id)
        if action == "correct":
            value = await self._fitting(found, value)
        who = by if isinstance(by, str) else None
        pipeline = self._pipeline
        made = await decide(
            pipeline.db, pipeline.project, found.id, action, value=value, by=who, note=note
        )
        return (await self._items([made]))[0]

    async def _items(self, found: Sequence[Review]) -> tuple[ReviewItem, ...]:
        """Return reviews with their rows."""
        rows: dict[tuple[str, str], Mapping[str, Any]] = {}
        for job_id in {one.job_id for one in found}:
            units = list({one.unit_key for one in found if one.job_id == job_id})
            pipeline = self._pipeline
            async for unit in units_of(pipeline.db, pipeline.project, job_id, units=units):
                rows[job_id, unit["unit_key"]] = unit["input"].get("data", {})
        return tuple(ReviewItem.of(one, rows.get((one.job_id, one.unit_key), {})) for one in found)

    async def _found(self, review_id: str) -> Review:
        try:
            return await find_review(self._pipeline.db, self._pipeline.project, review_id)
        except InvalidInputError as error:
            raise absent(error) from None

    async def _fitting(self, review: Review, value: Any) -> Any:
        """Return a correction in its column's normal form; of another kind of job, as it is."""
        job = await find_job(self._pipeline.db, self._pipeline.project, review.job_id)
        wanted = request_of(job).columns_to_enrich if job.pipeline == PIPELINE else ()
        column = next((one for one in wanted if one.name == review.field), None)
        if column is None:
            return value
        fitting = normal_value(column, value)
        if fitting is None:
            among = f", one of {', '.join(column.choices)}" if column.choices else ""
            raise InvalidInputError(
                f"value: {column.name} takes a value of type {column.type}{among}"
            )
        return fitting


def add_reviews(router: APIRouter, pipeline: EnrichmentPipeline, authorize: Any) -> None:
    """Add the routes of the queue; what `authorize` returns is who decides."""
    queue = _Queue(pipeline)
    who = Depends(authorize)

    async def accept(
        review_id: ReviewId, decision: Decision | None = None, by: Any = who
    ) -> ReviewItem:
        """Accept the likeliest value; the same decision again changes nothing."""
        return await queue.decide(review_id, "accept", by, decision and decision.note)

    async def correct(review_id: ReviewId, correction: Correction, by: Any = who) -> ReviewItem:
        """Put the right value in its place."""
        value = correction.value
        return await queue.decide(review_id, "correct", by, correction.note, value)

    async def reject(
        review_id: ReviewId, decision: Decision | None = None, by: Any = who
    ) -> ReviewItem:
        """Say that there is no value."""
        return await queue.decide(review_id, "reject", by, decision and decision.note)

    router.add_api_route(
        "/reviews",
        queue.list,
        dependencies=[who],
        responses=responses(),
        name="enrichment_reviews",
    )
    for action in (accept, correct, reject):
        router.add_api_route(
            f"/reviews/{{review_id}}/{action.__name__}",
            action,
            methods=["POST"],
            responses=responses(404, 409, 413),
            name=f"enrichment_review_{action.__name__}",
        )
