"""A block ends in time, and whoever else cancels a task is heard."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llm_common.database.deadline import Deadlines

FOREVER = 60.0


async def test_a_block_that_takes_too_long_times_out() -> None:
    with pytest.raises(TimeoutError), Deadlines().within(0.01):
        await asyncio.sleep(FOREVER)
    task = asyncio.current_task()
    assert task
    assert not task.cancelling()


async def test_blocks_in_time_are_left_alone() -> None:
    deadlines = Deadlines()
    for _ in range(3):
        with deadlines.within(0.05):
            await asyncio.sleep(0.03)
    await asyncio.sleep(0.1)


async def test_each_block_has_its_own_end() -> None:
    deadlines = Deadlines()
    ended: list[float] = []

    async def wait(seconds: float) -> None:
        with pytest.raises(TimeoutError), deadlines.within(seconds):
            await asyncio.sleep(FOREVER)
        ended.append(seconds)

    await asyncio.gather(*map(wait, (0.06, 0.02, 0.04)))
    assert ended == [0.02, 0.04, 0.06]


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async def wait() -> None:
        with Deadlines().within(FOREVER):
            await asyncio.sleep(FOREVER)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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


async def test_an_error_of_the_block_is_kept() -> None:
    with pytest.raises(KeyError), Deadlines().within(FOREVER):
        raise KeyError("own")


async def test_an_outer_timeout_is_not_taken_for_the_inner_one() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01) as outer:
            with Deadlines().within(FOREVER):
                await asyncio.sleep(FOREVER)
    assert outer.expired()


async def test_it_ends_with_the_thing_it_waited_for_done() -> None:
    """The time is over while the block returns: the cancellation does not leak out of it."""
    with Deadlines().within(0.01), contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(FOREVER)
    await asyncio.sleep(0)
