"""Deadlines of the calls on one event loop, under one timer.

`asyncio.timeout` sets a timer for each block and takes it back: a tenth of a round trip.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadlines:
    """The blocks of one event loop that must end in time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> Deadline:
        """Return a context manager that ends its block as `asyncio.timeout` does."""
        return Deadline(self, self._loop.time() + seconds)

    def enter(self, deadline: Deadline) -> None:
        """Watch a block."""
        self._open.add(deadline)
        if self._timer is None or deadline.ends < self._timer.when():
            self._set()

    def leave(self, deadline: Deadline) -> None:
        """Watch a block no longer. The timer stays, for the blocks that follow."""
        self._open.discard(deadline)

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        ends = min((each.ends for each in self._open), default=None)
        self._timer = None if ends is None else self._loop.call_at(ends, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for deadline in [each for each in self._open if each.ends <= now]:
            self._open.discard(deadline)
            deadline.expire()
        self._set()


class Deadline:
    """One block of one task.

    Attributes:
        ends: when, by the clock of the loop.
    """

    __slots__ = ("_before", "_expired", "_of", "_task", "ends")

    def __init__(self, of: Deadlines, ends: float) -> None:
        self._of = of
        self._expired = False
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self.ends = ends

    def expire(self) -> None:
        """Cancel what the block waits for."""
        self._expired = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for the code of a task")
        self._task, self._before = task, task.cancelling()
        self._of.enter(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        self._of.leave(self)
        if not self._expired or task is None:
            return
        # Who else has cancelled the task wants it to end, not to hear of a deadline.
        if task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
