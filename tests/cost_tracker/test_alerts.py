"""Alerts: at which moment, how often, and what survives."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_common.cost_tracker import CostTracker, Intent, Outcome
from llm_common.cost_tracker.alerts import AlertLoop, alert_json, alert_text, alerts_for
from llm_common.database import Database
from llm_common.errors import BudgetExceededError, DatabaseUnavailableError
from llm_common.outbox import Message
from llm_common.types import Usage
from tests import children
from tests.receiver import Receiver, receiving
from tests.servers import execute, fetch

CENT = 10_000_000
"""A cent in nano-dollars."""
Alert = tuple[str, str, str, str | None]


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """The webhook of every process of this test."""
    async with receiving() as running:
        monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", running.url)
        yield running


def intent(**changes: object) -> Intent:
    first = Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", CENT)
    return replace(first, **changes)  # type: ignore[arg-type]


async def spend(tracker: CostTracker, cents: str, **changes: object) -> None:
    hold = await tracker.reserve(intent(**changes))
    usage = Usage(input_tokens=7, output_tokens=3)
    tracker.settle(hold, Outcome("ok", Decimal(cents) / 100, "prices", "v1", usage=usage))
    await tracker.flush()


def raised(url: str) -> list[Alert]:
    return fetch(
        url,
        "SELECT body->>'scope', body->>'window', body->>'kind', body->>'threshold'"
        " FROM llm_outbox ORDER BY created_at, key",
    )


def of_day(*thresholds: str) -> list[Alert]:
    return [("project", "day", "threshold", t) for t in thresholds]


CROSSED = """
    INSERT INTO llm_budget_counters
        (project, scope, scope_id, window_kind, window_start, limit_usd, spent_usd)
    VALUES ('test', 'project', 'test', 'total', '2000-01-01', 1, 0.5)
"""


class Recording:
    """A connector that counts what is called."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.identity = db.identity
        self.calls: Counter[str] = Counter()

    async def call(self, function: str, payload: Any) -> Any:
        self.calls[function] += 1
        return await self._db.call(function, payload)

    async def aclose(self) -> None:
        await self._db.aclose()


async def test_each_threshold_once_however_often_it_is_passed(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.10")
    passed = {4: (), 5: ("0.5",), 7: ("0.5",), 8: ("0.5", "0.8"), 10: ("0.5", "0.8", "1")}
    for cents in range(1, 11):
        await spend(tracker, "1")
        if cents in passed:
            assert raised(database_url) == of_day(*passed[cents])
    body = receiver.bodies[1]
    assert body == {
        "text": "80 % reached: the day budget of project test, $0.1; $0.08 is spent since "
        f"{datetime.now(UTC).date()}.",
        "id": body["id"],
        "project": "test",
        "kind": "threshold",
        "scope": "project",
        "scope_id": "test",
        "window": "day",
        "window_start": str(datetime.now(UTC).date()),
        "threshold": "0.8",
        "limit_usd": "0.1",
        "spent_usd": "0.08",
    }
    assert [b["threshold"] for b in receiver.bodies] == ["0.5", "0.8", "1"]
    assert len(set(receiver.ids)) == 3


async def test_every_budget_has_alerts_of_its_own(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd=1, monthly_budget_usd="0.02")
    tracker.limit("user", "u", "total", "0.02")
    await spend(tracker, "1", user_id="u")
    assert sorted(raised(database_url)) == [
        ("project", "month", "threshold", "0.5"),
        ("user", "total", "threshold", "0.5"),
    ]


async def test_a_leap_raises_all_that_it_passes_and_a_hold_none(
    db: Database, database_url: str
) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.10")
    await tracker.reserve(intent(bound_nano=9 * CENT))
    await tracker.flush()
    assert raised(database_url) == []
    other = CostTracker(db, project="other", daily_budget_usd="0.10")
    await spend(other, "9", bound_nano=9 * CENT)
    assert raised(database_url) == of_day("0.5", "0.8")


async def test_a_trackers_own_threshold_is_registered_once_per_limit(
    db: Database, database_url: str
) -> None:
    counting = Recording(db)
    for _ in range(2):
        tracker = CostTracker(counting, daily_budget_usd="0.10", alert_threshold=0.25)
        await spend(tracker, "0.5")
        await spend(tracker, "0.5")
    assert counting.calls["llm_watch_budgets"] == 1
    assert raised(database_url) == of_day()
    await spend(tracker, "1")
    assert raised(database_url) == of_day("0.25")
    for threshold in (0.5, 0.8, 1):
        await spend(CostTracker(db, daily_budget_usd=1, alert_threshold=threshold), "0")
    rules = fetch(database_url, "SELECT scope, window_kind, threshold::text FROM llm_alert_rules")
    assert rules == [("project", "day", "0.25")]


async def test_a_threshold_that_comes_after_the_money_is_raised_then(
    db: Database, database_url: str
) -> None:
    await spend(CostTracker(db, daily_budget_usd="0.10"), "4", bound_nano=4 * CENT)
    assert raised(database_url) == []
    late = CostTracker(db, daily_budget_usd="0.10", alert_threshold=0.3)
    await spend(late, "0", user_id="free")
    assert raised(database_url) == of_day("0.3")


async def test_before_the_first_cent_nothing_is_passed(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.10", alert_threshold=0)
    await spend(tracker, "0")
    assert raised(database_url) == []
    await spend(tracker, "0.1")
    assert raised(database_url) == of_day("0")


async def test_a_raised_limit_and_a_second_crossing_are_no_second_alert(
    db: Database, database_url: str
) -> None:
    await spend(CostTracker(db, daily_budget_usd="0.02"), "1")
    more = CostTracker(db, daily_budget_usd="0.04")
    await spend(more, "0.5")
    await spend(more, "1")
    assert raised(database_url) == of_day("0.5")


async def test_a_lowered_limit_is_passed_without_new_spend(db: Database, database_url: str) -> None:
    await spend(CostTracker(db, daily_budget_usd=1), "1")
    lowered = CostTracker(db, daily_budget_usd="0.02")
    hold = await lowered.reserve(intent())
    assert raised(database_url) == of_day("0.5")
    lowered.settle(hold, Outcome("error", Decimal(0), "unbilled"))


async def test_a_new_budget_knows_what_was_spent_before_it(db: Database, database_url: str) -> None:
    await spend(CostTracker(db), "3")
    assert raised(database_url) == []
    await spend(CostTracker(db, daily_budget_usd="0.05"), "0")
    assert raised(database_url) == of_day("0.5")


async def test_an_expired_hold_raises_alerts_too(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.02")
    await tracker.reserve(intent(timeout_s=-60.0))
    assert raised(database_url) == []
    await tracker.flush()
    assert raised(database_url) == of_day("0.5")


async def test_a_refusal_at_the_end_of_a_budget_says_100(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.10")
    await spend(tracker, "9.5", bound_nano=10 * CENT)
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            await tracker.reserve(intent())
    assert raised(database_url) == of_day("0.5", "0.8", "1")


async def test_a_call_too_large_for_what_is_left_is_no_100(db: Database, database_url: str) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.10")
    for cents in ("0", "9.4"):
        await spend(tracker, cents, bound_nano=10 * CENT)
        for _ in range(2):
            with pytest.raises(BudgetExceededError):
                await tracker.reserve(intent(bound_nano=100 * CENT))
    expected = [("project", "day", "refused", None), *of_day("0.5", "0.8")]
    assert raised(database_url) == expected


async def test_periods_and_projects_are_apart(db: Database, database_url: str) -> None:
    for project in ("one", "two"):
        await spend(CostTracker(db, project=project, daily_budget_usd="0.02"), "1")
    execute(
        database_url,
        "INSERT INTO llm_budget_counters"
        " SELECT project, scope, scope_id, window_kind, window_start - 1, limit_usd, spent_usd"
        " FROM llm_budget_counters WHERE project = 'one'",
    )
    assert raised(database_url) == of_day("0.5", "0.5", "0.5")
    days = "SELECT count(DISTINCT body->>'window_start'), count(DISTINCT project) FROM llm_outbox"
    assert fetch(database_url, days) == [(2, 2)]


async def test_without_a_webhook_an_alert_is_logged_and_delivered(
    db: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await spend(CostTracker(db, daily_budget_usd="0.02", alert_threshold=0.5), "1")
    [line] = [r.getMessage() for r in caplog.records if "budget.alert" in r.getMessage()]
    assert "project=test kind=threshold scope=project scope_id=test window=day" in line
    assert "threshold=0.5" in line
    assert fetch(database_url, "SELECT state, channel FROM llm_outbox") == [("delivered", "log")]


async def test_a_webhook_that_is_refused_loses_nothing(
    db: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", "http://hooks.example.com/secret")
    await spend(CostTracker(db, daily_budget_usd="0.02"), "1")
    assert "alert.webhook_refused" in caplog.text
    assert "secret" not in caplog.text
    assert fetch(database_url, "SELECT state FROM llm_outbox") == [("pending",)]


async def test_reading_costs_delivers_nothing(db: Database, receiver: Receiver) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.02")
    tracker.settle(await tracker.reserve(intent()), Outcome("ok", Decimal("0.01"), "prices"))
    assert await tracker.get_daily_cost() == Decimal("0.01")
    assert receiver.bodies == []
    await tracker.aclose()
    assert [b["threshold"] for b in receiver.bodies] == ["0.5"]


async def test_the_background_looks_by_itself_and_rarely(db: Database, receiver: Receiver) -> None:
    counting = Recording(db)
    loop = AlertLoop(every_s=0.2)
    tracker = CostTracker(db, daily_budget_usd="4")
    for _ in range(200):
        tracker.settle(await tracker.reserve(intent()), Outcome("ok", Decimal("0.01"), "prices"))
        loop.nudge(counting, "test")
    # It ends by itself once nothing was settled since its last look.
    await children.until(lambda: not loop._tasks)
    # The tracker has a loop of its own, which may be the one that delivers.
    await children.until(lambda: [b["threshold"] for b in receiver.bodies] == ["0.5"])
    looks = counting.calls["llm_outbox_claim"]
    loop.nudge(counting, "test")
    await children.until(lambda: not loop._tasks)
    assert counting.calls["llm_outbox_claim"] == looks + 1


async def test_what_is_settled_during_the_flush_before_a_look_is_looked_for_as_well(
    db: Database, receiver: Receiver
) -> None:
    class Slow(Recording):
        async def call(self, function: str, payload: Any) -> Any:
            if function == "llm_settle" and not self.calls[function]:
                tracker.settle(late, Outcome("ok", Decimal("0.01"), "prices"))
                loop.nudge(self, "test")
            return await super().call(function, payload)

    slow, loop = Slow(db), AlertLoop(every_s=0.05)
    tracker = CostTracker(slow, daily_budget_usd="0.02")
    late, soon = await tracker.reserve(intent()), await tracker.reserve(intent(bound_nano=1))
    tracker.settle(soon, Outcome("ok", Decimal(0), "prices"))
    loop.nudge(slow, "test")
    await children.until(lambda: not loop._tasks)
    assert [b["threshold"] for b in receiver.bodies] == ["0.5"]


async def test_calls_in_a_row_cost_no_look_of_their_own(db: Database) -> None:
    counting = Recording(db)
    tracker = CostTracker(counting)
    for _ in range(100):
        tracker.settle(await tracker.reserve(intent()), Outcome("ok", Decimal("0.01"), "prices"))
        await asyncio.sleep(0)
    assert counting.calls["llm_outbox_claim"] == 0
    await tracker.flush()
    await tracker.flush()
    assert counting.calls["llm_outbox_claim"] == 1
    assert counting.calls["llm_watch_budgets"] == 0


async def test_a_last_look_leaves_no_connection_open(database_url: str) -> None:
    async def pay() -> None:
        tracker = CostTracker(database_url, daily_budget_usd=1)
        tracker.settle(await tracker.reserve(intent()), Outcome("ok", Decimal("0.01"), "prices"))

    await asyncio.to_thread(asyncio.run, pay())
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await children.until(lambda: fetch(database_url, others) == [(0,)])


async def test_two_event_loops_take_turns(db: Database) -> None:
    loop = AlertLoop(every_s=5)
    assert [loop._wait_s(now) for now in (100, 100, 101, 200)] == [5, 10, 14, 5]


async def test_a_look_that_fails_is_made_again(
    db: Database, database_url: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Recording):
        async def call(self, function: str, payload: Any) -> Any:
            if function == "llm_outbox_claim" and not self.calls[function]:
                self.calls[function] += 1
                raise DatabaseUnavailableError("away")
            return await super().call(function, payload)

    away = Away(db)
    loop = AlertLoop(every_s=0.05)
    execute(database_url, CROSSED)
    loop.nudge(away, "test")
    await children.until(lambda: len(receiver.bodies) == 1)
    assert "alert.look_failed" in caplog.text
    await children.until(lambda: not loop._tasks)


async def test_what_was_not_taken_is_tried_again_without_further_calls(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    receiver.answers.append(500)
    loop = AlertLoop(every_s=0.05)
    execute(database_url, CROSSED)
    loop.nudge(db, "test")
    await children.until(lambda: len(receiver.bodies) == 1)
    failed = "SELECT attempts FROM llm_outbox WHERE last_error = 'HTTP 500' AND claim_id IS NULL"
    await children.until(lambda: fetch(database_url, failed) == [(1,)])
    execute(database_url, "UPDATE llm_outbox SET due_at = clock_timestamp()")
    await children.until(lambda: len(receiver.bodies) == 2)
    await children.until(lambda: not loop._tasks)


async def test_a_refusal_alone_is_looked_at(db: Database, receiver: Receiver) -> None:
    tracker = CostTracker(db, daily_budget_usd="0.01")
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent(bound_nano=2 * CENT))
    await tracker.flush()
    assert [body["kind"] for body in receiver.bodies] == ["refused"]


async def test_after_the_end_nobody_looks(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    receiver.answers.append(500)
    loop = AlertLoop(every_s=0.05)
    execute(database_url, CROSSED)
    loop.nudge(db, "test")
    await loop.close(db)
    await children.until(lambda: not loop._tasks)
    assert len(receiver.bodies) == 1


KILLED = """
import asyncio, os, signal
from decimal import Decimal
from uuid import uuid4
from llm_common.cost_tracker import CostTracker, Intent, Outcome

async def main():
    tracker = CostTracker(os.environ["DATABASE_URL"], daily_budget_usd="0.02")
    intent = Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", 10_000_000)
    tracker.settle(await tracker.reserve(intent), Outcome("ok", Decimal("0.01"), "prices"))
    await tracker.get_daily_cost()
    print("spent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_killed_process_leaves_its_alerts_to_the_next(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    async with children.killed(KILLED, DATABASE_URL=database_url) as process:
        await process.wait()
    assert receiver.bodies == []
    assert fetch(database_url, "SELECT state FROM llm_outbox") == [("pending",)]
    await spend(CostTracker(db), "0")
    assert [b["threshold"] for b in receiver.bodies] == ["0.5"]


async def test_a_program_that_just_ends_delivers_first(
    database_url: str, receiver: Receiver
) -> None:
    ends = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "return")
    assert await children.run(ends, DATABASE_URL=database_url) == "spent"
    assert [b["threshold"] for b in receiver.bodies] == ["0.5"]


ALERT = {
    "kind": "threshold",
    "scope": "user",
    "scope_id": "<!channel>",
    "window": "total",
    "window_start": "2000-01-01",
    "threshold": "0.725",
    "limit_usd": "10",
    "spent_usd": "7.25",
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "72.5 % reached: the total budget of user <!channel> in project p, $10; "
         "$7.25 is spent."),
        ({"threshold": "0"}, "0 % reached: the total budget of user <!channel> in project p, $10; "
         "$7.25 is spent."),
        ({"threshold": "1", "scope": "project", "scope_id": "p", "window": "month"},
         "Used up: the month budget of project p, $10; $7.25 is spent since 2000-01-01."),
        ({"kind": "refused", "threshold": None, "scope_id": "u"},
         "A call was refused: it did not fit the total budget of user u in project p, $10; "
         "$7.25 is spent."),
    ],
)  # fmt: skip
def test_what_an_alert_says(changes: dict[str, Any], text: str) -> None:
    assert alert_text("p", {**ALERT, **changes}) == text


def test_a_scope_can_not_call_the_whole_channel() -> None:
    name = "<!channel> 'x'"
    body = alert_json(Message("i", "p", "budget", {**ALERT, "scope_id": name}, 1))
    assert "&lt;!channel&gt; 'x'" in body["text"]
    assert body["scope_id"] == name


def test_a_forked_child_is_a_new_instance(db: Database) -> None:
    mine = alerts_for(db)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"y" if alerts_for(db) is not mine else b"n")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"y"
    os.close(reading)
    os.close(writing)
    assert alerts_for(db) is mine
