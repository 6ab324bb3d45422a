"""Labels flow with the task and end with their block."""

from __future__ import annotations

import asyncio

import pytest

from llm_common.context import Labels, current, labels


def test_without_a_block_nothing_is_set() -> None:
    assert current() == Labels()


def test_inner_blocks_add_to_outer_ones() -> None:
    with labels(project="p", user="u-1"):
        with labels(user="u-2", tags=("a",)) as inner:
            assert inner == current() == Labels(project="p", user="u-2", tags=("a",))
        assert current() == Labels(project="p", user="u-1")
    assert current() == Labels()


def test_an_error_ends_the_block() -> None:
    with pytest.raises(ValueError, match="x"), labels(user="u"):
        raise ValueError("x")
    assert current() == Labels()


def test_there_are_no_other_labels() -> None:
    with pytest.raises(TypeError, match="colour"), labels(colour="red"):
        pass


async def test_tasks_do_not_see_each_other() -> None:
    async def user(name: str) -> str | None:
        with labels(user=name):
            await asyncio.sleep(0)
            return current().user

    with labels(project="p"):
        users = await asyncio.gather(*(user(name) for name in "abc"))
    assert users == ["a", "b", "c"]


async def test_they_reach_threads_that_the_task_starts() -> None:
    with labels(arm="new"):
        assert (await asyncio.to_thread(current)).arm == "new"
