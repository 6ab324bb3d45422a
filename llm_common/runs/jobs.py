"""Jobs: many units of one pipeline; made here, found here, told here what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Literal
from uuid import uuid4

from ..database import Database, schema_of
from ..errors import InvalidInputError, JobConflictError, JobStateError, SchemaError
from .canonical import digest, plain
from .outcomes import FAULTS, Outcome
from .writer import insistently

NEEDS_SCHEMA = 5
UNITS_AT_ONCE = 500

Action = Literal["pause", "resume", "cancel"]


@dataclass(frozen=True, slots=True)
class NewUnit:
    """A unit of a job to be.

    Attributes:
        unit_key: its name within the job.
        input: what its function is given; JSON.
        problem: why it is skipped from the start, with an outcome that says so.
    """

    unit_key: str
    input: Mapping[str, Any]
    problem: tuple[Outcome, str] | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be.

    Attributes:
        pipeline: the name of what works on it, and its version: older code leaves it alone.
        job_id: by default a new one; the same id again goes on with the same job.
        idempotency_key: a second job of this key is the first one.
        budget_usd: strict limit of the job, for whoever works on it.
    """

    pipeline: str
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    job_id: str | None = None
    idempotency_key: str | None = None
    budget_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is stored.

    Attributes:
        status: ``pending``, ``running``, ``paused``, ``cancelled``, ``completed`` or ``failed``.
        total: its units; None while they are being added.
    """

    job_id: str
    pipeline: str
    version: int
    status: str
    options: Mapping[str, Any]
    total: int | None
    budget_usd: Decimal | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    request_hash: str | None = None


async def create_job(
    db: Database, project: str, job: NewJob, units: Iterable[NewUnit]
) -> tuple[JobRecord, bool]:
    """Make a job with its units, and tell whether it is new.

    A job whose making was interrupted goes on when it is made again with the same id or key. The
    units are read as they are stored, some hundred at a time.

    Raises:
        JobConflictError: the id belongs to another project, or the key to another request.
        SchemaError: the database is not migrated far enough.
    """
    await check_schema(db)
    asked = digest([job.pipeline, job.version, plain(job.options)])
    opened = await insistently(
        db,
        "llm_job_open",
        {
            "job_id": job.job_id or str(uuid4()),
            "project": project,
            "pipeline": job.pipeline,
            "version": job.version,
            "options": plain(job.options),
            "budget_usd": job.budget_usd,
            "idempotency_key": job.idempotency_key,
            "request_hash": asked,
        },
    )
    if opened.get("foreign"):
        raise JobConflictError(f"job {job.job_id} belongs to another project: choose another id")
    if opened["request_hash"] != asked:
        raise JobConflictError(
            f"job {opened['job_id']} was made with other options: use another id or key"
        )
    if opened["total"] is None:
        await _add_units(db, project, opened["job_id"], units)
    return await find_job(db, project, opened["job_id"]), opened["created"]


async def _add_units(db: Database, project: str, job_id: str, units: Iterable[NewUnit]) -> None:
    where = {"job_id": job_id, "project": project}
    numbered = enumerate(units, 1)
    # Whoever reads a file does so off the event loop.
    while batch := await asyncio.to_thread(lambda: list(islice(numbered, UNITS_AT_ONCE))):
        rows = [_unit_row(job_id, ordinal, unit) for ordinal, unit in batch]
        await insistently(db, "llm_units_add", {**where, "units": rows})
    await insistently(db, "llm_job_seal", where)


def _unit_row(job_id: str, ordinal: int, unit: NewUnit) -> dict[str, Any]:
    outcome, message = unit.problem or (None, None)
    given = plain(unit.input)
    return {
        "run_id": str(uuid4()),
        "unit_key": unit.unit_key,
        # A unit of two jobs is two runs; what they share is the results of their steps.
        "input_hash": digest([job_id, given]),
        "ordinal": ordinal,
        "input": given,
        "outcome": outcome,
        "fault": FAULTS[outcome] if outcome else None,
        "error_message": message,
    }


async def find_job(db: Database, project: str, job_id: str) -> JobRecord:
    """Return a job.

    Raises:
        InvalidInputError: the project has no such job.
    """
    found = await find_jobs(db, project, job_id=job_id)
    if not found:
        raise InvalidInputError(f"project {project} has no job {job_id}")
    return found[0]


async def find_jobs(
    db: Database,
    project: str,
    *,
    job_id: str | None = None,
    pipeline: str | None = None,
    status: str | None = None,
    limit: int = 50,
) -> list[JobRecord]:
    """Return the jobs of a project, the latest first."""
    await check_schema(db)
    wanted = {"job_id": job_id, "pipeline": pipeline, "status": status, "limit": limit}
    answer = await db.call("llm_jobs", {"project": project, **wanted})
    return [_record(row) for row in answer["jobs"]]


async def control(db: Database, project: str, job_id: str, action: Action) -> str:
    """Pause, resume or cancel a job, and return its new status.

    Units under way are finished when a job is paused, and stopped when it is cancelled; in other
    processes within a few seconds.

    Raises:
        JobStateError: the job is not in a state for it, such as a second resume.
        InvalidInputError: the project has no such job.
    """
    await check_schema(db)
    asked = {"job_id": job_id, "project": project, "action": action}
    answer = await db.call("llm_job_control", asked)
    return _accepted(answer, project, job_id, action)["status"]


async def delete_job(db: Database, project: str, job_id: str) -> None:
    """Forget a job with its units and their steps; the ledger keeps what they cost.

    Raises:
        JobStateError: it is running.
    """
    await check_schema(db)
    answer = await db.call("llm_job_delete", {"job_id": job_id, "project": project})
    _accepted(answer, project, job_id, "be deleted")


async def retry(
    db: Database, project: str, job_id: str, outcomes: Sequence[str] | None = None
) -> int:
    """Queue the units that failed again, all or those of some outcomes; return how many.

    What they have paid for is looked up, as ever.

    Raises:
        JobStateError: the job is cancelled: resume it.
        InvalidInputError: the project has no such job.
    """
    return await _requeue(db, project, job_id, statuses=["failed"], outcomes=outcomes)


async def rerun(
    db: Database,
    project: str,
    job_id: str,
    *,
    units: Sequence[str] | None = None,
    steps: Sequence[str] = (),
    stale_for: Mapping[str, str] | None = None,
) -> int:
    """Queue units that are over again; return how many.

    Args:
        units: their keys; all by default.
        steps: are executed anew, whatever is stored; what follows from them is looked up by its
            inputs, so that it is anew as well where these changed.
        stale_for: versions of the steps; only units that were completed with others.

    Raises:
        JobStateError: the job is cancelled: resume it.
        InvalidInputError: the project has no such job.
    """
    over = ["completed", "failed", "insufficient_evidence"]
    return await _requeue(
        db, project, job_id, statuses=over, units=units, fresh=steps, not_versions=stale_for
    )


async def _requeue(db: Database, project: str, job_id: str, **which: Any) -> int:
    await check_schema(db)
    given: dict[str, Any] = {
        "outcomes": None,
        "units": None,
        "fresh": [],
        "not_versions": None,
        **which,
    }
    answer = await db.call("llm_units_requeue", {"job_id": job_id, "project": project, **given})
    return _accepted(answer, project, job_id, "retry")["requeued"]


def _accepted(answer: Mapping[str, Any], project: str, job_id: str, action: str) -> Any:
    if answer.get("absent"):
        raise InvalidInputError(f"project {project} has no job {job_id}")
    if status := answer.get("refused"):
        raise JobStateError(f"job {job_id} is {status}: it can't {action}")
    return answer


async def check_schema(db: Database) -> None:
    """Refuse a database without jobs.

    Raises:
        SchemaError: it is not migrated far enough.
    """
    found = await schema_of(db)
    if found < NEEDS_SCHEMA:
        raise SchemaError(
            f"the database has schema {found}, jobs need {NEEDS_SCHEMA}: "
            "run `llm-common migrate up`"
        )


def _record(row: Mapping[str, Any]) -> JobRecord:
    return JobRecord(
        job_id=row["job_id"],
        pipeline=row["pipeline"],
        version=row["version"],
        status=row["status"],
        options=row["options"] or {},
        total=row["total"],
        budget_usd=None if row["budget_usd"] is None else Decimal(row["budget_usd"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        started_at=moment_of(row["started_at"]),
        completed_at=moment_of(row["completed_at"]),
        request_hash=row["request_hash"],
    )


def moment_of(text: str | None) -> datetime | None:
    """Read a moment of the database."""
    return None if text is None else datetime.fromisoformat(text)
