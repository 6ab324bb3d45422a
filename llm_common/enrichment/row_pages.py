"""The rows of a job as they stand: what was found, and what persons have decided of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from ..database import Database
from ..review import Review, reviews
from ..runs import JobRecord, units_of
from .doubts import decided
from .models import EnrichedRow
from .reading import enriched_row

PAGE = 200


async def rows_of(
    db: Database, project: str, job: JobRecord, *, after: int = 0, limit: int | None = None
) -> AsyncGenerator[EnrichedRow]:
    """Yield rows in the order of the table, some hundred at a time.

    Args:
        after: so many rows of the table are left out.
        limit: at most so many.
    """
    page: list[Mapping[str, Any]] = []
    async for unit in units_of(db, project, job.job_id, after=after, limit=limit, page=PAGE):
        page.append(unit)
        if len(page) == PAGE:
            for row in await _decided(db, project, job, page):
                yield row
            page = []
    for row in await _decided(db, project, job, page):
        yield row


async def _decided(
    db: Database, project: str, job: JobRecord, units: Sequence[Mapping[str, Any]]
) -> list[EnrichedRow]:
    if not units:
        return []
    decisions: dict[str, list[Review]] = {}
    runs = [unit["run_id"] for unit in units]
    async for review in reviews(db, project, job_id=job.job_id, state=None, run_ids=runs):
        decisions.setdefault(review.run_id, []).append(review)
    return [
        decided(enriched_row(unit, job.status), decisions.get(unit["run_id"], ())) for unit in units
    ]
