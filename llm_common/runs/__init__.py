"""Durable runs: steps with stored results, resumed across processes."""

from .canonical import canonical, digest
from .opening import find_completed, find_runs, open_run
from .run import Replay, Run, Unit

__all__ = [
    "Replay",
    "Run",
    "Unit",
    "canonical",
    "digest",
    "find_completed",
    "find_runs",
    "open_run",
]
