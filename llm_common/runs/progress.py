"""How far a job is, and what has become of its units."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..database import Database
from ..errors import InvalidInputError
from .jobs import check_schema, moment_of

RECENT_S = 60.0
"""The rate of a job is that of its last minute."""

LOOKING = 0.1
"""The part of a watcher's time that may pass with looking: each look counts all units."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        counts: units by status.
        outcomes: units that are over, by outcome.
        rate: units per second that ended in the last minute.
        eta_s: seconds to the end at this rate; None when there is none.
        cost_usd: what the job has cost so far, in USD; `unpriced` calls are not in it.
        retries, interruptions: further tries after failures, and units whose process died.
    """

    job_id: str
    status: str
    total: int
    counts: Mapping[str, int]
    outcomes: Mapping[str, int]
    started_at: datetime | None
    completed_at: datetime | None
    now: datetime
    rate: float
    eta_s: float | None
    cost_usd: Decimal
    unpriced: int
    tokens: int
    retries: int
    interruptions: int

    @property
    def done(self) -> int:
        """Units that are over, whatever became of them."""
        return self.total - self.counts.get("queued", 0) - self.counts.get("running", 0)

    @property
    def percent(self) -> float:
        """Of the units, how many are over: 0 to 100."""
        return round(100 * self.done / self.total, 1) if self.total else 100.0

    @property
    def is_over(self) -> bool:
        """Whether nobody is to work on it, unless told so."""
        return self.status in {"completed", "failed", "cancelled"}


async def progress(db: Database, project: str, job_id: str) -> JobProgress:
    """Return how far a job is.

    Raises:
        InvalidInputError: the project has no such job.
    """
    await check_schema(db)
    asked = {"project": project, "job_id": job_id, "recent_s": RECENT_S}
    found = await db.call("llm_job_progress", asked)
    if found is None:
        raise InvalidInputError(f"project {project} has no job {job_id}")
    return _progress(job_id, found)


async def looks(
    look: Callable[[], Awaitable[JobProgress]], every_s: float
) -> AsyncGenerator[JobProgress]:
    """Yield how far a job is, again and again until it is over.

    Args:
        every_s: seconds between two looks; more where a look at a large job takes its time.
    """
    while True:
        began = time.monotonic()
        far = await look()
        took_s = time.monotonic() - began
        yield far
        if far.is_over:
            return
        await asyncio.sleep(max(every_s, took_s * (1 / LOOKING - 1)))


def _progress(job_id: str, found: Mapping[str, Any]) -> JobProgress:
    now, started = moment_of(found["now"]), moment_of(found["started_at"])
    counts: dict[str, int] = found["statuses"]
    elapsed_s = (now - started).total_seconds() if now and started else 0.0
    rate = found["recent"] / min(RECENT_S, elapsed_s) if elapsed_s > 0 else 0.0
    left = counts.get("queued", 0) + counts.get("running", 0)
    return JobProgress(
        job_id=job_id,
        status=found["status"],
        total=sum(counts.values()) if found["total"] is None else found["total"],
        counts=counts,
        outcomes=found["outcomes"],
        started_at=started,
        completed_at=moment_of(found["completed_at"]),
        now=datetime.fromisoformat(found["now"]),
        rate=rate,
        eta_s=left / rate if rate and found["status"] == "running" else None,
        cost_usd=Decimal(found["cost_usd"]),
        unpriced=found["unpriced"],
        tokens=found["tokens"],
        retries=found["retries"],
        interruptions=found["interruptions"],
    )


async def units_of(
    db: Database,
    project: str,
    job_id: str,
    *,
    statuses: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    with_steps: bool = False,
    after: int = 0,
    limit: int | None = None,
    page: int = 200,
) -> AsyncGenerator[dict[str, Any]]:
    """Yield the units of a job in its order, some hundred at a time.

    Each has `run_id`, `unit_key`, `ordinal`, `status`, `outcome`, `fault`, `input`, `output`,
    `error_class`, `error_message`, `tries`, `interruptions`, `started_at`, `completed_at`, `step`
    (the one that it is at), `cost_usd`, `unpriced`, `tokens` and, if asked for, `steps`.

    Args:
        after: the `ordinal` behind which to begin.
        limit: at most so many.
    """
    await check_schema(db)
    asked = {
        "project": project,
        "job_id": job_id,
        "statuses": statuses if statuses is None else list(statuses),
        "units": units if units is None else list(units),
        "steps": with_steps,
    }
    left = limit
    while left is None or left > 0:
        size = page if left is None else min(page, left)
        where = {"after": after, "limit": size}
        found = (await db.call("llm_job_units", {**asked, **where}))["units"]
        for unit in found:
            yield unit
        if len(found) < size:
            return
        after = found[-1]["ordinal"]
        left = None if left is None else left - len(found)
