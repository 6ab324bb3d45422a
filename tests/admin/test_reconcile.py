"""Nothing differs until something is planted; then it is found, measured and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from llm_common import admin
from llm_common.admin import BilledDay, Difference
from llm_common.cost_tracker import CostTracker, Intent, Outcome
from llm_common.database import Database
from llm_common.errors import InvalidInputError
from tests.admin.bills import Bills
from tests.cli.command import Command
from tests.servers import execute, fetch

CENT = 10_000_000
"""A cent in nano-dollars."""


def today() -> date:
    return datetime.now(UTC).date()


def yesterday() -> date:
    return today() - timedelta(days=1)


@pytest.fixture
async def tracker(db: Database, database_url: str) -> CostTracker:
    """Ten calls of a cent, under three limits; all of them are a day old for their provider."""
    tracker = CostTracker(db, daily_budget_usd=1, monthly_budget_usd=30)
    tracker.limit("user", "u", "total", 5)
    for number in range(10):
        intent = call(user_id="u" if number % 2 else None)
        tracker.settle(await tracker.reserve(intent), Outcome("ok", Decimal("0.01"), "prices"))
    await tracker.flush()
    execute(database_url, "UPDATE cost_tracking SET timestamp = timestamp - interval '1 day'")
    return tracker


def call(**changes: object) -> Intent:
    first = Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", CENT)
    return replace(first, **changes)  # type: ignore[arg-type]


async def differences(db: Database, *providers: str) -> list[Difference]:
    found = await admin.reconcile(db, "test", yesterday(), today(), providers)
    return list(found.differences)


def told(found: list[Difference]) -> list[tuple[str, str, Decimal]]:
    return [(d.kind, d.about, d.by) for d in found]


async def test_all_is_equal(tracker: CostTracker, db: Database, bills: Bills) -> None:
    bills.charge("openai", yesterday(), "0.1")
    held = await tracker.reserve(call())
    found = await admin.reconcile(db, "test", yesterday(), today(), ["openai"])
    assert found.differences == ()
    assert [(d.day, d.billed, d.certain, d.possible) for d in found.days] == [
        (yesterday(), Decimal("0.1"), Decimal("0.1"), Decimal("0.1"))
    ]
    assert found.notes == (
        f"openai: {yesterday()} to {yesterday()} compared; it has not told the rest in full",
    )
    assert (found.estimated_rows, found.estimated_usd, found.unpriced_rows) == (0, 0, 0)
    tracker.settle(held, Outcome("ok", Decimal(0), "prices"))


async def test_a_dropped_row_is_missed_by_every_counter_and_by_the_bill(
    tracker: CostTracker, db: Database, database_url: str, bills: Bills
) -> None:
    bills.charge("openai", yesterday(), "0.1")
    dropped = "SELECT id FROM cost_tracking WHERE user_id = 'u' LIMIT 1"
    execute(database_url, f"DELETE FROM cost_tracking WHERE id IN ({dropped})")
    found = await differences(db, "openai")
    cent = Decimal("0.01")
    assert told(found) == [
        ("spent", f"project test by day {today()}", cent),
        ("spent", f"project test by month {today().replace(day=1)}", cent),
        ("spent", "user u by total", cent),
        ("bill", f"openai on {yesterday()}", cent),
    ]
    assert "ledger rows were deleted" in found[0].cause
    assert "the ledger lacks" in found[3].cause


async def test_a_counter_that_is_off_by_a_cent(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    execute(
        database_url,
        "UPDATE llm_budget_counters SET spent_usd = spent_usd - 0.01 WHERE window_kind = 'month'",
    )
    [found] = await differences(db)
    assert (found.kind, found.by) == ("spent", Decimal("-0.01"))
    assert (found.expected, found.found) == (Decimal("0.1"), Decimal("0.09"))
    assert "by month" in found.about
    assert "the counter was changed" in found.cause
    # What the documentation says to do: the next call makes the counter anew.
    execute(database_url, "DELETE FROM llm_budget_counters WHERE window_kind = 'month'")
    tracker.settle(await tracker.reserve(call()), Outcome("ok", Decimal("0.01"), "prices"))
    await tracker.flush()
    assert await differences(db) == []


async def test_a_row_that_came_past_the_functions(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    execute(
        database_url,
        "INSERT INTO cost_tracking (model, cost_usd, project) VALUES ('m', 0.5, 'test')",
    )
    assert [(d.kind, d.by) for d in await differences(db)] == [("spent", Decimal("-0.5"))] * 2


HOLD = """
    INSERT INTO llm_holds (hold_id, project, operation_id, attempt_no, bound_nano, state, answer,
                           ledger_row, limits, expires_at)
    VALUES (gen_random_uuid(), 'test', gen_random_uuid(), 1, 10000000, 'held',
            jsonb_build_object('accounted_on', current_date), '{}',
            '[{"scope": "%s", "scope_id": "test", "window": "day", "limit_usd": "1"}]',
            clock_timestamp() + interval '1 minute')
"""


async def test_an_orphan_hold(tracker: CostTracker, db: Database, database_url: str) -> None:
    execute(database_url, HOLD % "project")
    [found] = await differences(db)
    assert told([found]) == [("held", f"project test by day {today()}", Decimal("-0.01"))]
    assert "a hold was inserted" in found.cause


async def test_a_hold_that_no_counter_knows(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    execute(database_url, HOLD % "task")
    [found] = await differences(db)
    assert told([found]) == [("held", f"task test by day {today()}", Decimal("-0.01"))]
    assert "orphan" in found.cause


async def test_an_amount_that_is_held_for_nobody(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    hold = await tracker.reserve(call(limits=(), project=None))
    execute(database_url, "DELETE FROM llm_holds WHERE state = 'held'")
    found = await differences(db)
    assert [(d.kind, d.by) for d in found] == [("held", Decimal("0.01"))] * 2
    assert "was deleted" in found[0].cause
    tracker.settle(hold, Outcome("error", Decimal(0), "unbilled"))


async def test_an_expired_hold_that_nobody_has_charged(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    hold = await tracker.reserve(call(timeout_s=-60.0))
    [found] = await differences(db)
    assert (found.kind, found.by) == ("expired hold", Decimal("0.01"))
    assert hold.intent.operation_id in found.about
    assert "charges it as estimated" in found.cause
    await tracker.flush()
    after = await admin.reconcile(db, "test", yesterday(), today())
    assert after.differences == ()
    assert (after.estimated_rows, after.estimated_usd) == (1, Decimal("0.01"))


async def test_a_hold_that_stands_though_it_is_settled(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    one = "hold_id IN (SELECT hold_id FROM llm_holds LIMIT 1)"
    execute(database_url, f"UPDATE llm_holds SET state = 'held' WHERE {one}")
    kinds = {d.kind for d in await differences(db)}
    assert kinds == {"held", "settled hold"}


# As the migration of leases makes it; there already where that has run.
LEASES = """
    CREATE TABLE IF NOT EXISTS llm_leases (
        lease_id uuid PRIMARY KEY, project text NOT NULL, owner text NOT NULL,
        limits jsonb NOT NULL, accounted_on date NOT NULL, granted_nano bigint NOT NULL,
        left_nano bigint NOT NULL,
        state text NOT NULL DEFAULT 'open', ends_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL);
    INSERT INTO llm_leases (lease_id, project, owner, limits, accounted_on, granted_nano, left_nano,
                            ends_at, expires_at)
    VALUES (gen_random_uuid(), 'test', 'o',
            '[{"scope": "project", "scope_id": "test", "window": "day", "limit_usd": "1"},
              {"scope": "project", "scope_id": "test", "window": "month", "limit_usd": "30"}]',
            llm_today('test'), 30000000, 20000000, clock_timestamp(),
            clock_timestamp() + interval '1 minute');
"""


async def test_a_lease_is_held_and_named_when_it_has_expired(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    execute(database_url, LEASES)
    assert [(d.kind, d.by) for d in await differences(db)] == [("held", Decimal("-0.02"))] * 2
    project = (
        "UPDATE llm_budget_counters SET held_nano = held_nano + 20000000 WHERE scope = 'project'"
    )
    execute(database_url, project)
    assert await differences(db) == []
    execute(database_url, "UPDATE llm_leases SET expires_at = clock_timestamp()")
    [found] = await differences(db)
    assert (found.kind, found.by) == ("expired lease", Decimal("0.02"))


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openrouter"])
async def test_a_line_too_many_on_the_bill(
    tracker: CostTracker, db: Database, database_url: str, bills: Bills, provider: str
) -> None:
    execute(database_url, f"UPDATE cost_tracking SET provider = '{provider}'")
    bills.charge(provider, yesterday(), "0.1")
    assert await differences(db, provider) == []
    bills.charge(provider, yesterday(), "0.25")
    [found] = await differences(db, provider)
    assert told([found]) == [("bill", f"{provider} on {yesterday()}", Decimal("0.25"))]


async def test_a_bill_that_is_too_small(tracker: CostTracker, db: Database, bills: Bills) -> None:
    bills.charge("openai", yesterday(), "0.09")
    [found] = await differences(db, "openai")
    assert (found.kind, found.by) == ("bill", Decimal("-0.01"))
    assert "more than was charged" in found.cause


async def test_a_bill_is_that_of_all_projects(
    tracker: CostTracker, db: Database, database_url: str, bills: Bills
) -> None:
    half = "SELECT id FROM cost_tracking WHERE user_id IS NULL"
    execute(database_url, f"UPDATE cost_tracking SET project = 'other' WHERE id IN ({half})")
    bills.charge("openai", yesterday(), "0.1")
    assert {d.kind for d in await differences(db, "openai")} == {"spent"}


ROW = """
    INSERT INTO cost_tracking (model, provider, project, cost_usd, cost_source, kind, timestamp,
                               latency_ms)
    VALUES ('m', %s, 'bill', %s, %s, '%s', %s, %s)
"""


async def test_what_can_not_be_known_is_allowed_for(db: Database, database_url: str) -> None:
    noon, midnight = f"'{yesterday()} 12:00Z'", f"'{yesterday()} 23:59:59Z'"
    rows = (
        ("'openai'", "1", "'prices'", "first", noon, "5"),
        ("'openai'", "2", "'estimated'", "first", noon, "5"),
        ("NULL", "4", "NULL", "lease_loss", noon, "NULL"),
        ("'openai'", "8", "'prices'", "first", midnight, "1500"),
        ("'openai'", "NULL", "NULL", "first", noon, "5"),
        ("'zai'", "16", "'prices'", "first", noon, "5"),
        ("NULL", "32", "'prices'", "external", noon, "NULL"),
    )
    for row in rows:
        execute(database_url, ROW % row)
    span = {"provider": "openai", "start": yesterday(), "end": today()}
    before, after = (await db.call("llm_provider_days", span))["days"]
    assert before == {
        "day": str(yesterday()),
        "certain_usd": "1",
        "possible_usd": "15",
        "estimated": 2,
        "unpriced": 1,
    }
    assert (after["certain_usd"], after["possible_usd"], after["unpriced"]) == ("0", "8", 0)
    # A span that begins after midnight knows of what began before.
    assert (await db.call("llm_provider_days", {**span, "start": today()}))["days"] == [after]


DAY = BilledDay("openai", date(2026, 11, 20), Decimal(1), Decimal(1), Decimal(1), 0, 0)


@pytest.mark.parametrize(
    ("changes", "by"),
    [
        ({}, None),
        ({"billed": "1.0001"}, None),
        ({"billed": "0.9999"}, None),
        ({"billed": "1.00011"}, "0.00011"),
        ({"billed": "0.99989"}, "-0.00011"),
        ({"billed": "2", "possible": "2"}, None),
        ({"billed": "2", "possible": "1.5"}, "0.5"),
        ({"billed": "0.5", "possible": "2"}, "-0.5"),
    ],
)
def test_how_far_a_bill_may_be_off(changes: dict[str, str], by: str | None) -> None:
    day = replace(DAY, **{name: Decimal(value) for name, value in changes.items()})  # type: ignore[arg-type]
    found = [d.by for d in admin.differing_bills([day])]
    assert found == ([] if by is None else [Decimal(by)])


def test_an_unpriced_row_can_explain_a_larger_bill_but_not_a_smaller() -> None:
    larger = replace(DAY, billed=Decimal(9), unpriced=1)
    smaller = replace(DAY, billed=Decimal(0), unpriced=1)
    assert list(admin.differing_bills([larger])) == []
    assert [d.by for d in admin.differing_bills([smaller])] == [Decimal(-1)]


async def test_other_spans_and_projects_are_left_alone(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    execute(database_url, "UPDATE llm_budget_counters SET spent_usd = 7")
    last_year = date(today().year - 1, 1, 1)
    found = (await admin.reconcile(db, "test", last_year, last_year)).differences
    assert [d.about for d in found] == ["user u by total"]
    assert (await admin.reconcile(db, "other", yesterday(), today())).differences == ()
    with pytest.raises(InvalidInputError, match="is after the last"):
        await admin.reconcile(db, "test", today(), yesterday())


async def test_reconciling_changes_nothing(
    tracker: CostTracker, db: Database, database_url: str
) -> None:
    await tracker.reserve(call(timeout_s=-60.0))
    state = "SELECT (SELECT json_agg(c) FROM llm_budget_counters c)::text, count(*) FROM llm_holds"
    before = fetch(database_url, state)
    await differences(db)
    assert fetch(database_url, state) == before


@pytest.fixture
def cli(database_url: str, bills: Bills, tmp_path: Path) -> Command:
    where = {"DATABASE_URL": database_url, "LLM_COMMON_STATE_DIR": str(tmp_path)}
    return Command({**where, "LLM_COMMON_PROJECT": "test", **bills.environment()})


async def test_the_command_says_what_differs(
    tracker: CostTracker, database_url: str, bills: Bills, cli: Command
) -> None:
    bills.charge("openai", yesterday(), "0.1")
    span = ("--since", str(yesterday()))
    equal = await cli("costs", "reconcile", *span)
    assert (equal.code, equal.err) == (0, "")
    assert "✓ the ledger, the counters and what is held agree" in equal.out
    assert "anthropic" in equal.out, "every provider with a key is asked"
    execute(database_url, "UPDATE llm_budget_counters SET spent_usd = 0.11")
    bills.charge("openai", yesterday(), "0.2")
    differs = await cli("costs", "reconcile", *span, "--provider", "openai")
    assert differs.code == 2
    assert f"✗ spent: project test by day {today()}: $0.11, expected $0.10 (+$0.01)" in differs.out
    assert f"✗ bill: openai on {yesterday()}: $0.30, expected $0.10 (+$0.20)" in differs.out
    assert "anthropic" not in differs.out
    as_json = await cli("costs", "reconcile", *span, "--provider", "openai", "--json")
    assert as_json.code == 2
    assert as_json.json["equal"] is False
    assert [d["by"] for d in as_json.json["differences"]] == ["0.01", "0.01", "0.06", "0.2"]
    assert as_json.json["days"][0]["billed"] == "0.3"


async def test_the_command_needs_the_key_that_it_is_asked_for(cli: Command) -> None:
    del cli.environment["ANTHROPIC_ADMIN_KEY"]
    refused = await cli("costs", "reconcile", "--provider", "anthropic")
    assert refused.code == 2
    assert "ANTHROPIC_ADMIN_KEY" in refused.complaint
    assert "does not report" in (await cli("costs", "reconcile", "--provider", "zai")).complaint
    lost = await cli("costs", "--project", "x", "reconcile")
    assert (lost.code, "write the options after reconcile" in lost.complaint) == (2, True)
