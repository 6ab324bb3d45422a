"""A block ends in time, and whoever else cancels a task is heard.

Time is the event loop's own: it passes only where nothing else can happen, and at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from llm_common.database.deadline import Deadlines

FOREVER = 60.0


class Clock(selectors.SelectSelector):
    """Turns the time that a loop would wait for into time that has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class Timeless(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def timeless(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=Timeless) as runner:
            runner.run(test())

    return run


@timeless
async def test_a_block_that_takes_too_long_times_out() -> None:
    with pytest.raises(TimeoutError), Deadlines().within(0.01):
        await asyncio.sleep(FOREVER)
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()


@timeless
async def test_blocks_in_time_are_left_alone() -> None:
    deadlines = Deadlines()
    for _ in range(3):
        with deadlines.within(0.05):
            await asyncio.sleep(0.03)
    await asyncio.sleep(0.1)


@timeless
async def test_each_block_has_its_own_end() -> None:
    deadlines = Deadlines()
    ended: list[float] = []

    async def wait(seconds: float) -> None:
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await asyncio.sleep(FOREVER)
        ended.append(seconds)

    await asyncio.gather(*map(wait, (0.06, 0.02, 0.04)))
    assert ended == [0.02, 0.04, 0.06]


@timeless
async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async def wait() -> None:
        with Deadlines().within(FOREVER):
            await asyncio.sleep(FOREVER)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@timeless
async def test_a_cancellation_counts_even_when_the_time_is_over_as_well() -> None:
    async def wait() -> None:
        with Deadlines().within(0.01):
            try:
                await asyncio.sleep(FOREVER)
            finally:
                own = asyncio.current_task()
                assert own
                own.cancel()

    task = asyncio.ensure_future(wait())
    with pytest.raises(asyncio.CancelledError):
        await task


@timeless
async def test_an_error_of_the_block_is_kept() -> None:
    with pytest.raises(KeyError), Deadlines().within(FOREVER):
        raise KeyError("own")


@timeless
async def test_an_outer_timeout_is_not_taken_for_the_inner_one() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01) as outer:
            with Deadlines().within(FOREVER):
                await asyncio.sleep(FOREVER)
    assert outer.expired()


@timeless
async def test_it_ends_with_the_thing_it_waited_for_done() -> None:
    """The time is over while the block returns: the cancellation does not leak out of it."""
    with Deadlines().within(0.01), contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(FOREVER)
    await asyncio.sleep(0)
