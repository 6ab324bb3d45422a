"""Requests in flight, first come first served, over all threads and loops of a process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

POLL_S = 1.0
"""How often a waiting request looks again by itself: another process may have given slots back."""


@dataclass(slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]


class Slots:
    """A counter of requests in flight and the queue of those that wait.

    Attributes:
        in_flight: requests that hold a slot.
        peak: most at a time since somebody last set it.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.peak = 0
        self._queue: deque[_Waiter] = deque()
        self._lock = threading.Lock()

    @property
    def wanted(self) -> int:
        """Slots that would serve everybody."""
        return self.in_flight + len(self._queue)

    async def enter(
        self, capacity: Callable[[], int], deadline: float, grow: Callable[[], Awaitable[None]]
    ) -> bool:
        """Wait for a slot; False if none came free in time.

        Args:
            capacity: how many there are, at the moment.
            deadline: by `time.monotonic`.
            grow: tries to raise the capacity; awaited by the first in the queue.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if not self._queue and self._take(capacity):
                return True
            waiter = _Waiter(loop, loop.create_future())
            self._queue.append(waiter)
        try:
            while True:
                if self._queue[0] is waiter:
                    await grow()
                with self._lock:
                    if self._queue[0] is waiter and self._take(capacity):
                        return True
                    waiter.turn = loop.create_future()
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                await asyncio.wait([waiter.turn], timeout=min(left_s, POLL_S))
        finally:
            with self._lock:
                self._queue.remove(waiter)
                self._call_next()

    def leave(self) -> None:
        """Give a slot back."""
        with self._lock:
            self.in_flight = max(self.in_flight - 1, 0)
            self._call_next()

    def _take(self, capacity: Callable[[], int]) -> bool:
        if self.in_flight >= capacity():
            return False
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        return True

    def _call_next(self) -> None:
        """Wake the first in the queue; when its loop is gone, it will never come: the next one."""
        while self._queue:
            waiter = self._queue[0]
            try:
                waiter.loop.call_soon_threadsafe(_wake, waiter.turn)
            except RuntimeError:
                self._queue.popleft()
                continue
            return


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
