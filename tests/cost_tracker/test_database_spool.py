"""`spool="database"`: nothing on the disk is needed to know what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.cost_tracker import Intent, Outcome, is_owner_alive, owner_of
from llm_common.cost_tracker.process import ledger_for
from llm_common.cost_tracker.spool import read_records
from llm_common.database import Database
from llm_common.errors import (
    BudgetExceededError,
    DatabaseUnavailableError,
    InvalidInputError,
    UnknownPriceError,
)
from llm_common.testing import ProviderServer
from tests import children, servers

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]
CENT = 10_000_000
MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]

CALL = """
import asyncio, os
from llm_common import CostTracker, LLMClient
costs = CostTracker(os.environ["DATABASE_URL"], spool="database", **{LIMITS})
llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
print(asyncio.run(llm.chat([{"role": "user", "content": "Which county pays?"}])))
"""


def intent(bound: int | None = CENT, **changes: Any) -> Intent:
    return Intent(str(uuid4()), 1, "first", "openai", "m", bound, **changes)


def spent(cents: str) -> Outcome:
    return Outcome("ok", Decimal(cents) / 100, "prices", "v1")


@pytest.mark.parametrize("limits", [{}, {"daily_budget_usd": 1}], ids=["free", "limited"])
async def test_a_killed_call_is_known_without_its_disk(
    fake: ProviderServer, database_url: str, tmp_path: Path, ledger: Ledger, limits: dict[str, int]
) -> None:
    fake.latency_s = 60
    code = CALL.replace("{LIMITS}", repr(limits))
    environment = {"DATABASE_URL": database_url, "LLM_COMMON_STATE_DIR": str(tmp_path)}
    async with children.killed(code, **environment):
        await children.until(lambda: len(fake.requests) == 1)
    rows = servers.fetch(database_url, "SELECT status, cost_source, cost_usd FROM cost_tracking")
    assert [row[:2] for row in rows] == [("estimated", "estimated")]
    assert rows[0][2] >= fake.invoice.total_usd > 0
    (row,) = await ledger()
    assert row["cost_usd"] == rows[0][2]
    counters = "SELECT spent_usd, held_nano FROM llm_budget_counters"
    assert servers.fetch(database_url, counters) == [(row["cost_usd"], 0)] * len(limits)
    for file in tmp_path.rglob("*.spool"):
        assert [record["t"] for record in read_records(file.read_bytes())] == ["h"]


async def test_the_result_takes_the_place_of_the_estimate(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd=1, spool="database")
    hold = await tracker.reserve(intent(step="generate"))
    free = await CostTracker(db, spool="database").reserve(intent(None))
    query = "SELECT cost_source, cost_usd FROM cost_tracking ORDER BY cost_usd"
    assert servers.fetch(database_url, query) == [
        ("estimated", Decimal("0.01")),
        ("estimated", None),
    ]
    tracker.settle(hold, spent("0.2"))
    tracker.settle(free, spent("0.3"))
    assert await tracker.get_daily_cost() == Decimal("0.005")
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.005"), 0)
    records = list(read_records(ledger_for(db).spool.path.read_bytes()))
    assert [record["t"] for record in records] == ["h"], "the disk was written to"


async def test_a_strict_budget_admits_exactly_what_fits(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.50", spool="database")

    async def call() -> bool:
        try:
            hold = await tracker.reserve(intent())
        except BudgetExceededError:
            return False
        await asyncio.sleep(0.01)
        tracker.settle(hold, spent("1"))
        return True

    assert sum(await asyncio.gather(*(call() for _ in range(200)))) == 50
    assert await tracker.get_daily_cost() == Decimal("0.50")
    with pytest.raises(UnknownPriceError):
        await tracker.reserve(intent(None))


async def test_a_tenth_of_a_transaction_per_call_from_twenty_at_once(
    db: Database, database_url: str
) -> None:
    tracker = CostTracker(db, daily_budget_usd=100, spool="database")
    calls: list[str] = []
    original = db.call

    async def call(function: str, payload: Any) -> Any:
        calls.append(function)
        return await original(function, payload)

    db.call = call  # type: ignore[method-assign]
    gate = asyncio.Semaphore(20)

    async def one() -> None:
        async with gate:
            hold = await tracker.reserve(intent())
            await asyncio.sleep(0.005)
            tracker.settle(hold, spent("0.1"))

    await asyncio.gather(*(one() for _ in range(400)))
    assert len(calls) <= 40
    assert await tracker.get_daily_cost() == Decimal("0.40")


async def test_a_cancelled_reservation_costs_nothing(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=1, spool="database")
    for delay_s in (0, 0.005, 0.02, 0.03):
        call = asyncio.create_task(tracker.reserve(intent()))
        await asyncio.sleep(delay_s)
        call.cancel()
        done = (await asyncio.gather(call, return_exceptions=True))[0]
        if not isinstance(done, BaseException):
            tracker.settle(done, spent("0"))
    await children.until(lambda: not ledger_for(db).grants._tasks)
    assert await tracker.get_daily_cost() == 0
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (0, 0)


async def test_a_database_that_is_away_refuses_before_the_wire(fake: ProviderServer) -> None:
    tracker = CostTracker("postgresql://127.0.0.1:1/none", spool="database")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=tracker)
    with pytest.raises(DatabaseUnavailableError):
        await llm.chat(MESSAGES)
    assert fake.requests == []


async def test_no_disk_at_all_will_do(
    fake: ProviderServer, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with monkeypatch.context() as patch:
        patch.setenv("LLM_COMMON_STATE_DIR", str(blocked / "state"))
        patch.setenv("LLM_COMMON_SPOOL", "database")
        tracker = CostTracker(database_url, daily_budget_usd=1)
        await LLMClient("openai", model="gpt-4o", cost_tracker=tracker).chat(MESSAGES)
        assert await tracker.get_daily_cost() == fake.invoice.total_usd
        assert is_owner_alive(tracker.db, owner_of(tracker.db)) is None, "nobody can see it"
        await tracker.aclose()


def test_a_spool_is_on_disk_or_in_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="'disk' or 'database', not 'memory'"):
        CostTracker("embedded", spool="memory")  # type: ignore[arg-type]
    monkeypatch.setenv("LLM_COMMON_SPOOL", "tape")
    with pytest.raises(InvalidInputError, match="not 'tape'"):
        CostTracker("embedded")
    CostTracker("embedded", spool="disk")
