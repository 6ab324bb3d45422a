"""One exposure while it lasts: its labels, its clock, and the outcome in the end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, contextmanager
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from ..context import Execution, executing, labels
from ..errors import BudgetError, RunBusyError
from .evaluation import Choice
from .models import Exposure, Status
from .recorder import Recorder

T = TypeVar("T")

Columns = Mapping[str, str | None]


class Showing:
    """A unit is shown an arm from now on.

    Args:
        recorder: None where nothing is recorded.
        arm: the arm as the ledger has it: ``old``, ``new`` or ``shadow``.

    Attributes:
        exposure: what is shown.
        execution: the runs that were opened and the money that was spent meanwhile.
    """

    def __init__(self, choice: Choice, arm: str, recorder: Recorder | None) -> None:
        self.exposure = Exposure(
            id=str(uuid4()),
            unit_id=choice.unit,
            arm=choice.arm,
            reason=choice.reason,
            share=choice.share,
            counted=choice.counted,
            revision=choice.revision,
        )
        self.execution = Execution()
        self._arm = arm
        self._recorder = recorder
        self._started = time.monotonic()
        if recorder is not None:
            recorder.exposed(self.exposure, arm)

    @contextmanager
    def inside(self) -> Generator[None]:
        """What runs in the block belongs to the exposure."""
        with labels(arm=self._arm), executing(self.execution):
            yield

    @contextmanager
    def recorded(self, columns: Columns | None = None) -> Generator[None]:
        """Record how the block ends, as the outcome.

        Args:
            columns: of the row that an old arm leaves in `pipeline_runs`.
        """
        try:
            yield
        except BaseException as error:
            self.ended(error, run=columns)
            raise
        self.ended(run=columns)

    def ended(self, error: BaseException | None = None, **known: Any) -> None:
        """Record the outcome.

        Args:
            error: what it ended with, if it failed.
            known: fields of the outcome that are known better than from here.
        """
        if self._recorder is None:
            return
        outcome: dict[str, Any] = {
            "exposure_id": self.exposure.id,
            "unit_id": self.exposure.unit_id,
            "arm": self._arm,
            "status": _status_of(error),
            "error_class": None if error is None else type(error).__name__,
            "latency_ms": round((time.monotonic() - self._started) * 1000),
            "cost_usd": self.cost_usd,
            "run_id": next(iter(self.execution.run_ids), None),
            **known,
        }
        if outcome.get("run") is not None:
            outcome["run_id"] = self.exposure.id
        self._recorder.ended(outcome)

    @property
    def cost_usd(self) -> Decimal | None:
        """What was spent; of an old arm that calls nothing through here it is not known."""
        is_blind = self._arm == "old" and not self.execution.calls
        return None if is_blind else self.execution.cost_usd

    @cost_usd.setter
    def cost_usd(self, cost: Decimal | None) -> None:
        self.execution.calls += 1
        self.execution.cost_usd = cost


def _status_of(error: BaseException | None) -> Status:
    """Name how an execution ended.

    What a budget refuses, what another process is at already, and what a caller cancels says
    nothing about an arm.
    """
    if error is None:
        return "ok"
    if isinstance(error, BudgetError | RunBusyError):
        return "refused"
    return "error" if isinstance(error, Exception) else "cancelled"


async def labelled(showing: Showing, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield what an arm yields; around each item, since a generator has its reader's context."""
    async with aclosing(items):
        while True:
            with showing.inside():
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item
