"""What the routes answer with, as OpenAPI shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from ...enrichment.estimating import Estimate
from ...enrichment.models import Column, EnrichedRow, JobStatus
from ...enrichment.reading import progress_body, request_of
from ...review import Review, State
from ...runs import JobProgress, JobRecord
from ...types import Frozen


class Problem(Frozen):
    """Why a request was refused, in one sentence."""

    detail: str


class Accepted(Frozen):
    """A job, and how it stands now."""

    job_id: str
    status: JobStatus


class Requeued(Accepted):
    """A job that goes on, and how many of its rows are tried again."""

    requeued: int


class Progress(Frozen):
    """Rows by what became of them; `percent` is of the completed ones, 0 to 100."""

    total: int
    completed: int
    failed: int
    skipped: int
    percent: float


class Status(Accepted):
    """How far a job is; moments are ISO 8601 in UTC."""

    progress: Progress
    started_at: datetime | None
    estimated_completion: datetime | None


class ProgressEvent(Status):
    """How far a job is, and at what speed and price.

    Attributes:
        rate: rows per second that ended in the last minute.
        eta_s: seconds to the end at this rate; None when there is none.
        spend_usd: what the job has cost so far, in USD; `unpriced` calls are not in it.
    """

    rate: float
    eta_s: float | None
    spend_usd: Decimal
    unpriced: int

    @classmethod
    def of(cls, far: JobProgress) -> ProgressEvent:
        """Return what is told of a job's progress."""
        more = {"rate": round(far.rate, 3), "spend_usd": far.cost_usd, "unpriced": far.unpriced}
        eta_s = None if far.eta_s is None else round(far.eta_s, 1)
        return cls.model_validate({**progress_body(far), **more, "eta_s": eta_s})


class Job(Accepted):
    """A job as it was submitted.

    Attributes:
        total: its rows; None while they are being stored.
        keys: columns that name a row.
        columns: columns that are wanted.
    """

    total: int | None
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    budget_usd: Decimal | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, job: JobRecord) -> Job:
        """Return what is told of a job."""
        request = request_of(job)
        return cls(
            job_id=job.job_id,
            status=JobStatus(job.status),
            total=job.total,
            keys=request.keys,
            columns=request.columns_to_enrich,
            budget_usd=job.budget_usd,
            created_at=job.created_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
        )


class Jobs(Frozen):
    """Jobs, the latest first."""

    jobs: tuple[Job, ...]


class Rows(Frozen):
    """Rows in the order of the table; `next` is the `after` of the next page, if there is one."""

    rows: tuple[EnrichedRow, ...]
    next: int | None


class Skipped(Frozen):
    """A row that would be skipped; `number` counts from 1, the header not among them."""

    number: int
    reason: str


class Estimated(Frozen):
    """What a job would do and could cost, in USD; None where a price is unknown."""

    rows: int
    skipped: tuple[Skipped, ...]
    queries: tuple[str, ...]
    searches: int
    likely_usd: Decimal | None
    most_usd: Decimal | None

    @classmethod
    def of(cls, found: Estimate) -> Estimated:
        """Return what is told of an estimate."""
        skipped = tuple(Skipped(number=number, reason=why) for number, why in found.skipped)
        return cls(
            rows=found.rows,
            skipped=skipped,
            queries=found.queries,
            searches=found.searches,
            likely_usd=found.likely_usd,
            most_usd=found.most_usd,
        )


class ReviewItem(Frozen):
    """A value that waits for a person's word, or has it.

    Attributes:
        row: the columns of its row, as they were submitted.
        field: the column that it is a value of.
        details: the cell, with what speaks for and against the value.
        decided: the value that holds now.
        by: who decided.
    """

    id: str
    job_id: str
    unit_key: str
    row: Mapping[str, Any]
    field: str
    value: Any
    details: Mapping[str, Any]
    reason: str | None
    state: State
    decided: Any
    by: str | None
    note: str | None
    created_at: datetime
    decided_at: datetime | None

    @classmethod
    def of(cls, review: Review, row: Mapping[str, Any]) -> ReviewItem:
        """Return what is told of a review."""
        told = {name: getattr(review, name) for name in cls.model_fields if name != "row"}
        return cls.model_validate({**told, "row": row})


class Reviews(Frozen):
    """Reviews in the order in which they came; `next` is the `after` of the next page."""

    reviews: tuple[ReviewItem, ...]
    next: int | None
