"""The money functions under concurrency, each caller on a connection of its own."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from llm_common.cost_tracker import CostMetrics, CostTracker, Intent, Outcome
from llm_common.cost_tracker.spool import Spool, folder_for
from llm_common.database import connect
from llm_common.errors import InvalidInputError
from llm_common.types import Usage
from tests import servers
from tests.cost_tracker.money import (
    CENT,
    Callers,
    counters,
    day_limit,
    estimate,
    ledger_sum,
    request,
    reserve,
    row,
)


async def test_a_row_settled_many_times_at_once_counts_once(url: str, call: Callers) -> None:
    wanted = request()
    await reserve(call, wanted)
    settled = row(wanted["row"]["operation_id"])
    await asyncio.gather(*(call("llm_settle", rows=[settled, settled]) for _ in range(12)))
    assert counters(url) == {("project", "p", "day"): (Decimal("0.01"), 0)}
    assert ledger_sum(url) == Decimal("0.01")


async def test_one_hold_id_has_one_answer(url: str, call: Callers) -> None:
    wanted = request()
    answers = await asyncio.gather(*(reserve(call, wanted) for _ in range(12)))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["granted"]
    assert counters(url) == {("project", "p", "day"): (0, CENT)}


async def test_a_refusal_stays_one(url: str, call: Callers) -> None:
    first, second = request(cents=90), request(cents=20)
    assert (await reserve(call, first))["granted"]
    refused = await reserve(call, second)
    assert not refused["granted"]
    assert (refused["limit_usd"], refused["spent_usd"], refused["held_usd"]) == ("1", "0", "0.9")
    await call("llm_settle", rows=[row(first["row"]["operation_id"], "0.001")])
    assert await reserve(call, second) == refused
    assert (await reserve(call, {**second, "hold_id": str(uuid4())}))["granted"]


ORDERS = list(itertools.permutations(["estimate", "first", "second", "estimate again"]))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
async def test_the_first_final_row_wins_in_any_order(
    database_url: str, order: tuple[str, ...]
) -> None:
    call = Callers(database_url)
    operation = str(uuid4())
    rows = {
        "estimate": estimate(operation, "0.05"),
        "estimate again": estimate(operation, "0.07"),
        "first": row(operation, "0.01", tokens_used=1),
        "second": row(operation, "0.02", tokens_used=2),
    }
    await reserve(call, request(operation, cents=5))
    for name in order:
        await call("llm_settle", rows=[rows[name]])
    await call.close()
    final = Decimal("0.01") if order.index("first") < order.index("second") else Decimal("0.02")
    ((cost, status, tokens),) = servers.fetch(
        database_url, "SELECT cost_usd, status, tokens_used FROM cost_tracking"
    )
    assert (cost, status, tokens) == (final, "ok", int(final * 100))
    assert counters(database_url) == {("project", "p", "day"): (final, 0)}


async def test_an_expired_hold_is_charged_and_gives_way_to_the_late_result(
    url: str, call: Callers
) -> None:
    wanted = request(ttl_s=-1)
    await reserve(call, wanted)
    operation = wanted["row"]["operation_id"]
    await asyncio.gather(*(call("llm_expire_holds", project="p") for _ in range(6)))
    query = (
        "SELECT status, error_class, cost_usd, accounted_on = (timestamp AT TIME ZONE 'UTC')::date "
    )
    assert servers.fetch(url, query + "FROM cost_tracking") == [
        ("estimated", "HoldExpired", Decimal("0.01"), True)
    ]
    assert counters(url) == {("project", "p", "day"): (Decimal("0.01"), 0)}
    await call("llm_settle", rows=[row(operation, "0.002")])
    assert counters(url) == {("project", "p", "day"): (Decimal("0.002"), 0)}
    assert await call("llm_expire_holds", project="p") == {"expired": 0}


async def test_expiry_and_result_at_once_keep_the_result(url: str, call: Callers) -> None:
    wanted = [request(ttl_s=-1) for _ in range(20)]
    await asyncio.gather(*(reserve(call, w) for w in wanted))
    settled = [row(w["row"]["operation_id"], "0.003") for w in wanted]
    await asyncio.gather(
        *(call("llm_settle", rows=[r]) for r in settled),
        *(call("llm_expire_holds", project="p") for _ in range(5)),
    )
    assert ledger_sum(url) == Decimal("0.06")
    assert counters(url) == {("project", "p", "day"): (Decimal("0.06"), 0)}


async def test_a_settlement_needs_no_hold(url: str, call: Callers) -> None:
    await reserve(call, request())
    await call("llm_settle", rows=[row(cost="0.5"), row(cost=None, cost_source=None)])
    assert counters(url) == {("project", "p", "day"): (Decimal("0.5"), CENT)}


async def test_many_scopes_and_callers_neither_overspend_nor_wait_for_each_other(
    url: str, call: Callers
) -> None:
    """Scopes are named in any order; each admits exactly what fits, and nothing deadlocks."""
    draw = random.Random(7)
    users = ["u1", "u2", "u3"]

    async def spend(number: int) -> bool:
        user = users[number % 3]
        limits = [day_limit("0.60"), day_limit("0.25", "user", user), day_limit("9", "tag", "t")]
        draw.shuffle(limits)
        wanted = request("", *limits)
        if not (await reserve(call, wanted))["granted"]:
            return False
        spent = {"user_id": user, "tags": ["t"], "model": "m"}
        await call("llm_settle", rows=[row(wanted["row"]["operation_id"], "0.01", **spent)])
        return True

    async with asyncio.timeout(60):
        granted = sum(await asyncio.gather(*(spend(n) for n in range(90))))
    assert granted == 60
    assert ledger_sum(url) == Decimal("0.60")
    sums = counters(url)
    assert sums["project", "p", "day"] == sums["tag", "t", "day"] == (Decimal("0.6"), 0)
    assert all(sums["user", u, "day"][0] <= Decimal("0.25") for u in users)
    assert sum(sums["user", u, "day"][0] for u in users) == Decimal("0.60")


async def test_a_new_counter_misses_no_settlement_that_races_it(url: str, call: Callers) -> None:
    for number in range(6):
        user = f"u{number}"
        limit = day_limit("99", "user", user)
        month = {**limit, "window": "month"}
        wanted = [request("", limit, month) for _ in range(3)]
        await asyncio.gather(
            *(call("llm_settle", rows=[row(user_id=user)]) for _ in range(15)),
            *(reserve(call, w) for w in wanted),
            *(call("llm_settle", rows=[row(user_id=user), row(user_id=user)]) for _ in range(5)),
        )
        spent = ledger_sum(url, f"user_id = '{user}'")
        assert spent == Decimal("0.25")
        assert counters(url)["user", user, "day"] == (spent, 3 * CENT)
        assert counters(url)["user", user, "month"] == (spent, 3 * CENT)


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("UTC", "2026-11-20T23:59:59+00:00", "2026-11-20"),
        ("America/Los_Angeles", "2026-11-21T07:59:59+00:00", "2026-11-20"),
        ("America/Los_Angeles", "2026-11-21T08:00:00+00:00", "2026-11-21"),
        ("Pacific/Kiritimati", "2026-11-30T10:00:00+00:00", "2026-12-01"),
        ("Asia/Kathmandu", "2026-11-20T18:14:59+00:00", "2026-11-20"),
        ("Asia/Kathmandu", "2026-11-20T18:15:00+00:00", "2026-11-21"),
    ],
)
async def test_a_day_is_the_projects_own(url: str, zone: str, moment: str, day: str) -> None:
    servers.execute(url, f"INSERT INTO llm_projects VALUES ('test', '{zone}')")
    tracker = CostTracker(url, project="test")
    when = datetime.fromisoformat(moment)
    await tracker.log_cost(CostMetrics(model="m", cost_usd=Decimal("0.01"), timestamp=when))
    date = datetime.fromisoformat(day).date()
    assert await tracker.get_daily_cost(date) == Decimal("0.01")
    assert await tracker.get_monthly_cost(date.year, date.month) == Decimal("0.01")
    (line,) = await tracker.get_cost_breakdown(date, date, "day")
    assert line.key == day
    await tracker.aclose()


async def test_holds_and_rows_of_one_call_are_in_one_window_of_the_zone(url: str) -> None:
    """Fourteen hours ahead of UTC it is often another day, and at times another month."""
    servers.execute(url, "INSERT INTO llm_projects VALUES ('test', 'Pacific/Kiritimati')")
    tracker = CostTracker(url, project="test", daily_budget_usd=1, monthly_budget_usd=2)
    hold = await tracker.reserve(Intent(str(uuid4()), 1, "first", "openai", "m", CENT))
    tracker.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1"))
    budgets = {b.window: b for b in await tracker.get_budgets()}
    ((today,),) = servers.fetch(url, "SELECT (now() AT TIME ZONE 'Pacific/Kiritimati')::date")
    assert budgets["day"].window_start == today
    assert budgets["month"].window_start == today.replace(day=1)
    assert {(b.spent_usd, b.held_usd) for b in budgets.values()} == {(Decimal("0.002"), 0)}
    assert await tracker.get_daily_cost() == Decimal("0.002")
    await tracker.aclose()


async def test_a_row_of_yesterday_does_not_count_today(url: str, call: Callers) -> None:
    await reserve(call, request("", day_limit(), {**day_limit(), "window": "total"}))
    await call("llm_settle", rows=[row(cost="0.3", timestamp="2020-01-01T12:00:00+00:00")])
    spent = {window: spent for (_, _, window), (spent, _) in counters(url).items()}
    assert spent == {"day": 0, "total": Decimal("0.3")}


class TestRefusedRows:
    """A row that the database can't hold must not keep the others from it."""

    @pytest.fixture
    def url(self, database_url: str) -> str:
        return database_url

    async def test_it_stays_in_the_spool_and_the_others_arrive(
        self, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        tracker = CostTracker(connect(url), project="test")
        holds = [
            await tracker.reserve(Intent(str(uuid4()), 1, "first", "openai", "m", CENT))
            for _ in range(3)
        ]
        too_many = [1, 2**40, 2]
        for hold, tokens in zip(holds, too_many, strict=True):
            usage = Usage(input_tokens=tokens)
            tracker.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1", usage))
        assert await tracker.get_daily_cost() == Decimal("0.004")
        ours = [r for r in caplog.records if r.name.startswith("llm_common")]
        refused = [r.getMessage() for r in ours if r.levelname == "ERROR"]
        assert refused == [f"ledger.row_refused operation={holds[1].intent.operation_id}"]
        assert await tracker.get_daily_cost() == Decimal("0.004")
        await tracker.aclose()

    async def test_a_dead_process_that_left_one_stops_nobody(self, url: str) -> None:
        tracker = CostTracker(connect(url), project="p")
        dead = Spool(folder_for(tracker.db.identity))
        for bad in ({}, {"tokens_used": 2**40}, {}):
            dead.append("i", row(**bad))
        dead.close()
        await tracker.flush()
        assert ledger_sum(url) == Decimal("0.02")
        (kept,) = dead.folder.glob("*.dead")
        assert kept.stem == dead.instance
        await tracker.aclose()

    async def test_a_run_that_is_no_uuid_is_refused_before_the_wire(self, url: str) -> None:
        tracker = CostTracker(connect(url), project="test")
        with pytest.raises(InvalidInputError, match="run_id must be a UUID, not 'my-run'"):
            await tracker.reserve(
                Intent(str(uuid4()), 1, "first", "openai", "m", CENT, run_id="my-run")
            )
        await tracker.aclose()
