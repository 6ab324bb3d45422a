"""Durable runs: steps with stored results, and jobs of many units over any number of processes."""

from .canonical import canonical, digest
from .jobs import (
    JobRecord,
    NewJob,
    NewUnit,
    control,
    create_job,
    delete_job,
    find_job,
    find_jobs,
    rerun,
    retry,
)
from .opening import find_completed, find_runs, open_run
from .outcomes import FAULTS, Outcome, Retries
from .pipeline import CommitHook, Ended, Pipeline
from .progress import JobProgress, progress, units_of
from .run import Replay, Run, Unit
from .runner import work
from .unit_run import UnitRun

__all__ = [
    "FAULTS",
    "CommitHook",
    "Ended",
    "JobProgress",
    "JobRecord",
    "NewJob",
    "NewUnit",
    "Outcome",
    "Pipeline",
    "Replay",
    "Retries",
    "Run",
    "Unit",
    "UnitRun",
    "canonical",
    "control",
    "create_job",
    "delete_job",
    "digest",
    "find_completed",
    "find_job",
    "find_jobs",
    "find_runs",
    "open_run",
    "progress",
    "rerun",
    "retry",
    "units_of",
    "work",
]
