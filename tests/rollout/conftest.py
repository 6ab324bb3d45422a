"""A rollout on this test's own database, and the arms that tests give it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from llm_common.database import Database
from llm_common.rollout import Rollout, keeper
from llm_common.rollout.commands import change, wanted

FLAG = "bill-analysis"
POLL_S = "0.05"

Set = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def _quick_and_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll often; but a process that stalls neither goes by no state nor gives it up."""
    monkeypatch.setattr(keeper, "FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(keeper, "LEAST_STALE_S", 600.0)
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
