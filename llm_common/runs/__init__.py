"""Durable runs: steps with stored results, resumed across processes."""

from .canonical import canonical, digest
from .run import Replay, Run, Unit, open_run

__all__ = ["Replay", "Run", "Unit", "canonical", "digest", "open_run"]
