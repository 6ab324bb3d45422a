"""One exposure while it lasts: its labels, its clock, and the outcome in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, contextmanager
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from ..context import Execution, executing, labels
from ..errors import BudgetError
from .evaluation import Choice
from .models import Exposure, Status
from .recorder import Recorder

T = TypeVar("T")


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

    def ended(
        self,
        error: BaseException | None = None,
        *,
        columns: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Record the outcome.

        Args:
            error: what it ended with, if it failed.
            columns: of the row that an old arm leaves in `pipeline_runs`.
            more: fields of the outcome that are known better than from here.
        """
        if self._recorder is None:
            return
        run_id = next(iter(self.execution.run_ids), None)
        outcome = {
            "exposure_id": self.exposure.id,
            "unit_id": self.exposure.unit_id,
            "arm": self._arm,
            "status": status_of(error),
            "error_class": None if error is None else type(error).__name__,
            "latency_ms": round((time.monotonic() - self._started) * 1000),
            "cost_usd": _text(self.execution.cost_usd),
            "run_id": self.exposure.id if columns is not None else run_id,
            "matched": None,
            "difference": None,
            "run": columns,
        }
        self._recorder.ended(outcome | more)


def status_of(error: BaseException | None) -> Status:
    """Name how an execution ended. Pure.

    What a budget refuses and what a caller cancels says nothing about an arm.
    """
    if error is None:
        return "ok"
    if isinstance(error, BudgetError):
        return "refused"
    return "error" if isinstance(error, Exception) else "cancelled"


async def passed_on(showing: Showing, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield what an arm yields and record how that ends.

    The labels are set around each item: a generator shares the context of whoever reads it.
    """
    async with aclosing(items):
        try:
            while True:
                with showing.inside():
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        break
                yield item
        except (Exception, asyncio.CancelledError, GeneratorExit) as error:
            showing.ended(error)
            raise
        showing.ended()


def _text(cost_usd: Decimal | None) -> str | None:
    return None if cost_usd is None else str(cost_usd)
