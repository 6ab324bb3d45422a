"""What flows with the task: labels (project, run, step, user, arm), and what a block has done."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from .errors import ShadowWriteError

if TYPE_CHECKING:
    from .cost_tracker import Limit

SHADOW = "shadow"
"""The arm of an execution beside the one that is served: it must leave no trace."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the rows of the ledger are labelled with, where the call did not say.

    Attributes:
        limits: strict budgets of the block, beside those of its trackers.
    """

    project: str | None = None
    run_id: str | None = None
    step: str | None = None
    user: str | None = None
    task: str | None = None
    arm: str | None = None
    job_id: str | None = None
    tags: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()


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


@dataclass(slots=True)
class Execution:
    """What happened in a block.

    Attributes:
        run_ids: durable runs that were opened.
        cost_usd: of the calls that were made; None when the price of one is unknown.
        calls: attempts that were settled.
    """

    run_ids: list[str] = field(default_factory=list[str])
    cost_usd: Decimal | None = Decimal(0)
    calls: int = 0


_execution: ContextVar[Execution | None] = ContextVar("llm_common_execution", default=None)


@contextmanager
def executing(execution: Execution | None = None) -> Generator[Execution]:
    """Write down what happens in the block, going on with an execution if there is one."""
    execution = execution or Execution()
    token = _execution.set(execution)
    try:
        yield execution
    finally:
        _execution.reset(token)


def note_run(run_id: str) -> None:
    """Say that a durable run was opened."""
    if (execution := _execution.get()) is not None:
        execution.run_ids.append(run_id)


def note_cost(cost_usd: Decimal | None) -> None:
    """Say what an attempt has cost."""
    if (execution := _execution.get()) is not None:
        execution.calls += 1
        if execution.cost_usd is not None:
            execution.cost_usd = None if cost_usd is None else execution.cost_usd + cost_usd


def is_shadow() -> bool:
    """Tell whether this task is a shadow execution, whose result nobody is shown."""
    return current().arm == SHADOW


def refuse_in_shadow(what: str) -> None:
    """Refuse a write in a shadow execution.

    Args:
        what: says in the error what was refused, such as ``saving a message``.

    Raises:
        ShadowWriteError: this task is one.
    """
    if is_shadow():
        raise ShadowWriteError(f"{what} is refused in a shadow execution: it must not write")
