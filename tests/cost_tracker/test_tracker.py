"""Reserve and settle against a real Postgres."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from llm_common.cost_tracker import CostMetrics, CostTracker, Intent, Limit, Outcome
from llm_common.database import Database
from llm_common.errors import (
    BudgetExceededError,
    ConfigurationError,
    DatabaseUnavailableError,
    InvalidInputError,
    UnknownPriceError,
)
from llm_common.types import Usage

CENT = 10_000_000
"""A cent in nano-dollars."""


def intent(**changes: object) -> Intent:
    first = Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", CENT)
    return replace(first, **changes)  # type: ignore[arg-type]


def spent(cents: str, **changes: object) -> Outcome:
    fields = {"usage": Usage(input_tokens=7, output_tokens=3), **changes}
    return Outcome("ok", Decimal(cents) / 100, "prices", "v1", **fields)  # type: ignore[arg-type]


async def rows(db: Database, tracker: CostTracker) -> list[tuple[str, Decimal, int]]:
    today = datetime.now(UTC).date()
    lines = await tracker.get_cost_breakdown(today, today, "status")
    return [(line.key, line.total_cost, line.calls) for line in lines]


async def test_a_settled_attempt_is_one_row_with_its_exact_cost(db: Database) -> None:
    tracker = CostTracker(db)
    hold = await tracker.reserve(intent(step="generate", tags=("a",)))
    cost = tracker.settle(hold, spent("0.0000000001"))
    assert cost == Decimal("1E-12")
    total = await tracker.get_daily_cost()
    assert total == cost
    assert total.unpriced == 0
    line = (await tracker.get_cost_breakdown(*[datetime.now(UTC).date()] * 2, "step"))[0]
    assert (line.key, line.calls, line.tokens) == ("generate", 1, 10)


async def test_a_strict_budget_admits_exactly_what_fits(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.50")

    async def call() -> bool:
        try:
            hold = await tracker.reserve(intent())
        except BudgetExceededError:
            return False
        await asyncio.sleep(0.01)
        tracker.settle(hold, spent("1"))
        return True

    admitted = sum(await asyncio.gather(*(call() for _ in range(200))))
    assert admitted == 50
    assert await tracker.get_daily_cost() == Decimal("0.50")
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.5"), 0)


async def test_a_refusal_says_what_is_left_and_leaves_no_row(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=0.015, monthly_budget_usd=1)
    tracker.settle(await tracker.reserve(intent()), spent("1"))
    with pytest.raises(BudgetExceededError, match=r"project test by day is \$0\.015") as refused:
        await tracker.reserve(intent())
    assert refused.value.remaining_usd == Decimal("0.005")
    assert refused.value.needed_usd == Decimal("0.01")
    assert await rows(db, tracker) == [("ok", Decimal("0.01"), 1)]


async def test_what_a_hold_did_not_need_is_free_again(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.015")
    for _ in range(5):
        tracker.settle(await tracker.reserve(intent()), spent("0.1"))
        await tracker.flush()
    assert await tracker.get_daily_cost() == Decimal("0.005")


async def test_a_new_budget_counts_what_was_spent_before_it(db: Database) -> None:
    free = CostTracker(db)
    free.settle(await free.reserve(intent()), spent("3"))
    await free.flush()
    tracker = CostTracker(db, daily_budget_usd="0.035")
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent())
    free.settle(await free.reserve(intent(bound_nano=1)), spent("0.4"))
    await free.flush()
    (budget,) = await tracker.get_budgets()
    assert budget.spent_usd == Decimal("0.034")


@pytest.mark.parametrize(
    ("scope", "label"),
    [("user", {"user_id": "u"}), ("job", {"job_id": "u"}), ("tag", {"tags": ("u",)})],
)
async def test_a_limit_binds_its_own_scope_only(
    db: Database, scope: str, label: dict[str, object]
) -> None:
    tracker = CostTracker(db)
    tracker.limit(scope, "u", "total", "0.01")  # type: ignore[arg-type]
    tracker.settle(await tracker.reserve(intent(**label)), spent("1"))
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent(**label))
    tracker.settle(await tracker.reserve(intent()), spent("1"))


async def test_a_callers_own_limit(db: Database) -> None:
    tracker = CostTracker(db)
    limit = Limit("tag", "client:1", "total", Decimal("0.01"))
    tracker.settle(await tracker.reserve(intent(limits=(limit,), tags=("client:1",))), spent("1"))
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent(limits=(limit,), tags=("client:1",)))


async def test_settling_twice_changes_nothing(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=1)
    hold = await tracker.reserve(intent())
    tracker.settle(hold, spent("0.3"))
    tracker.settle(hold, spent("0.9"))
    await tracker.flush()
    assert await tracker.get_daily_cost() == Decimal("0.003")
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.003"), 0)


async def test_an_estimate_gives_way_to_a_final_row_but_not_the_reverse(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=1)
    hold = await tracker.reserve(intent())
    tracker.settle(hold, Outcome("cancelled", estimate=True))
    assert await tracker.get_daily_cost() == Decimal("0.01")
    tracker.settle(hold, spent("0.2"))
    assert await tracker.get_daily_cost() == Decimal("0.002")
    tracker.settle(hold, Outcome("estimated", estimate=True))
    assert await tracker.get_daily_cost() == Decimal("0.002")
    (budget,) = await tracker.get_budgets()
    assert budget.spent_usd == Decimal("0.002")


async def test_cost_over_the_hold_is_recorded_in_full_and_flagged(
    db: Database, database_url: str
) -> None:
    import psycopg

    tracker = CostTracker(db, daily_budget_usd=1)
    tracker.settle(await tracker.reserve(intent()), spent("7"))
    assert await tracker.get_daily_cost() == Decimal("0.07")
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT over_hold, cost_usd FROM cost_tracking").fetchone()
    assert row == (True, Decimal("0.07"))


async def test_an_unknown_price_is_counted_and_refused_under_a_budget(db: Database) -> None:
    tracker = CostTracker(db)
    unknown = Outcome("ok", None, None, usage=Usage(input_tokens=1))
    tracker.settle(await tracker.reserve(intent(bound_nano=None)), unknown)
    total = await tracker.get_daily_cost()
    assert (total, total.unpriced) == (0, 1)
    strict = CostTracker(db, monthly_budget_usd=5)
    with pytest.raises(UnknownPriceError, match="gpt-4o"):
        await strict.reserve(intent(bound_nano=None))


async def test_an_expired_hold_is_charged_as_estimated(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.015")
    await tracker.reserve(intent(timeout_s=-60.0))
    assert await rows(db, tracker) == [("estimated", Decimal("0.01"), 1)]
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.01"), 0)


async def test_external_costs_are_logged_and_our_own_are_not_counted_twice(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=1)
    hold = await tracker.reserve(intent())
    cost = tracker.settle(hold, spent("0.25"))
    same = CostMetrics(model="gpt-4o", step="x", cost_usd=cost, tokens_used=10)
    await tracker.log_cost(same)
    by_id = CostMetrics(
        model="m",
        step="x",
        cost_usd=Decimal(1),
        operation_id=hold.intent.operation_id,  # type: ignore[arg-type]
    )
    await tracker.log_cost(by_id)
    assert await tracker.get_daily_cost() == Decimal("0.0025")
    await tracker.log_cost(CostMetrics(model="gpt-4o", step="x", cost_usd=0.5, tokens_used=99))  # type: ignore[arg-type]
    assert await tracker.get_daily_cost() == Decimal("0.5025")
    (budget,) = await tracker.get_budgets()
    assert budget.spent_usd == Decimal("0.5025")


async def test_projects_do_not_see_each_other(db: Database) -> None:
    one, two = CostTracker(db, project="one", daily_budget_usd=1), CostTracker(db, project="two")
    one.settle(await one.reserve(intent()), spent("1"))
    assert await one.get_daily_cost() == Decimal("0.01")
    assert await two.get_daily_cost() == 0


async def test_monthly_cost_and_budget(db: Database) -> None:
    tracker = CostTracker(db, monthly_budget_usd="0.01")
    tracker.settle(await tracker.reserve(intent()), spent("1"))
    now = datetime.now(UTC)
    assert await tracker.get_monthly_cost(now.year, now.month) == Decimal("0.01")
    assert await tracker.get_monthly_cost(2001, 1) == 0
    with pytest.raises(BudgetExceededError, match="by month"):
        await tracker.reserve(intent())


@pytest.mark.parametrize("amount", ["ten", -1, float("nan"), float("inf"), "", True])
def test_a_budget_that_is_no_amount_is_refused_at_once(amount: object) -> None:
    with pytest.raises(InvalidInputError, match="the day budget must be a number of USD"):
        CostTracker("postgresql://localhost/none", daily_budget_usd=amount)  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(InvalidInputError, match="alert_threshold"):
        CostTracker("embedded", alert_threshold=80)
    with pytest.raises(ConfigurationError, match="one argument"):
        CostTracker("a", supabase_client="b")


def test_without_a_database_there_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        CostTracker()


async def test_an_unreachable_database_refuses_before_the_wire() -> None:
    tracker = CostTracker("postgresql://127.0.0.1:1/none", daily_budget_usd=1)
    with pytest.raises(DatabaseUnavailableError, match="can't be reached"):
        await tracker.reserve(intent())
