"""Job state in Postgres: what the runs have, read as a `StateStore`."""

from __future__ import annotations

from typing import Any

from ..database import Database, connect
from ..errors import InvalidInputError
from ..runs import delete_job, find_job, find_jobs, progress, units_of
from .interfaces import StateStore
from .models import JobState, JobStatus, RowState
from .reading import PIPELINE, job_state, row_state

MOST_JOBS = 10_000


class PostgresStateStore(StateStore):
    """The state of jobs as their runs have it: one record per row.

    Runners write it, step by step, before anybody could save it here: `save_job_state` and
    `save_row_state` have nothing left to do.

    Args:
        db: a Postgres URL or a `Database`.
    """

    def __init__(self, db: Any, project: str) -> None:
        self._db: Database = connect(db)
        self._project = project

    async def save_job_state(self, job_state: JobState) -> None:
        """Do nothing: it is stored."""

    async def save_row_state(self, job_id: str, row_state: RowState) -> None:
        """Do nothing: it is stored."""

    async def load_job_state(self, job_id: str) -> JobState | None:
        """Return a job with all its rows; None if there is none."""
        try:
            job = await find_job(self._db, self._project, job_id)
        except InvalidInputError:
            return None
        far = await progress(self._db, self._project, job_id)
        found = units_of(self._db, self._project, job_id, with_steps=True)
        rows = [row_state(unit, job.status) async for unit in found]
        return job_state(job, far, rows)

    async def list_job_ids(self, status: JobStatus | None = None) -> list[str]:
        """Return the ids of jobs, the latest first."""
        jobs = await find_jobs(
            self._db, self._project, pipeline=PIPELINE, status=status, limit=MOST_JOBS
        )
        return [job.job_id for job in jobs]

    async def delete_job_state(self, job_id: str) -> None:
        """Forget a job with its rows and their steps; the ledger keeps what they cost.

        Raises:
            JobStateError: it is running.
        """
        await delete_job(self._db, self._project, job_id)
