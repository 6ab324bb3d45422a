"""A rollout on this test's own database, and the arms that tests give it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from llm_common.database import Database
from llm_common.rollout import Rollout
from llm_common.rollout.commands import change, wanted

FLAG = "bill-analysis"
POLL_S = "0.05"

Set = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", POLL_S)
    for name in ("USE_NEW_LLM_FRAMEWORK", "USE_NEW_LLM_FRAMEWORK_PERCENTAGE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def rollout(db: Database) -> AsyncIterator[Rollout]:
    async with Rollout(FLAG, db) as started:
        yield started


@pytest.fixture
def set_to(rollout: Rollout) -> Set:
    """Set the rollout, and wait until it has read that."""

    async def set_it(value: str, action: str = "set", **more: Any) -> None:
        to = wanted(value) | more
        assert rollout.db is not None
        await change(rollout.db, rollout.project, rollout.flag, action, reason="a test", to=to)
        await rollout.start()
        await rollout._keeper.refresh()

    return set_it


async def old() -> str:
    return "old"


async def new() -> str:
    return "new"


async def broken() -> str:
    raise RuntimeError("the new code is broken")
