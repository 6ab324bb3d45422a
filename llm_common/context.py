"""Labels that flow with the task: project, run, step, user, arm."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Labels:
    """What the rows of the ledger are labelled with, where the call did not say."""

    project: str | None = None
    run_id: str | None = None
    step: str | None = None
    user: str | None = None
    task: str | None = None
    arm: str | None = None
    job_id: str | None = None
    tags: tuple[str, ...] = ()


_labels: ContextVar[Labels] = ContextVar("llm_common_labels", default=Labels())  # noqa: B039 - frozen


def current() -> Labels:
    """Return the labels in force in this task."""
    return _labels.get()


@contextmanager
def labels(**changes: object) -> Generator[Labels]:
    """Set labels for the block; those not named stay as they are.

    Example:
        ``with labels(user="u-17", arm="new"): await llm.chat(...)``
    """
    merged = replace(_labels.get(), **changes)  # type: ignore[arg-type]
    token = _labels.set(merged)
    try:
        yield merged
    finally:
        _labels.reset(token)
