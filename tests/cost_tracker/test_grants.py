"""Leases and holds as the trackers of several processes take them, against a real Postgres."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from supabase import acreate_client

from llm_common import CostTracker
from llm_common.cost_tracker import Hold, Intent, Outcome
from llm_common.cost_tracker.process import ledger_for
from llm_common.database import Database, pool
from llm_common.errors import BudgetExceededError, DatabaseError, DatabaseUnavailableError
from tests import children, servers
from tests.postgrest import SupabaseLite

CENT = 10_000_000
"""A cent in nano-dollars."""


class Wire:
    """The way of one process to the database: it can count, be slow and lose answers.

    `slowest_s` is the longest that the database itself took.

    Two of them are two processes: a process is known by its database's identity.
    """

    def __init__(self, db: Database) -> None:
        self.db = db
        self.identity = f"{db.identity} {uuid4()}"
        self.calls: Counter[str] = Counter()
        self.before_s = self.after_s = self.slowest_s = 0.0
        self.loses: set[str] = set()

    async def call(self, function: str, payload: Any) -> Any:
        self.calls[function] += 1
        await asyncio.sleep(self.before_s)
        asked = time.monotonic()
        answer = await self.db.call(function, payload)
        self.slowest_s = max(self.slowest_s, time.monotonic() - asked)
        await asyncio.sleep(self.after_s)
        if function in self.loses:
            raise DatabaseUnavailableError("the answer is lost")
        return answer

    async def aclose(self) -> None:
        await self.db.aclose()


@pytest.fixture
async def process(db: Database) -> AsyncIterator[Callable[..., CostTracker]]:
    """Make trackers, each of a process of its own."""
    trackers: list[CostTracker] = []

    def make(budget: str = "1000", **options: Any) -> CostTracker:
        tracker = CostTracker(Wire(db), project="test", daily_budget_usd=budget, **options)
        trackers.append(tracker)
        return tracker

    yield make
    for tracker in trackers:
        tracker.db.loses = set()  # type: ignore[attr-defined]
        await tracker.aclose()


def wire(tracker: CostTracker) -> Wire:
    assert isinstance(tracker.db, Wire)
    return tracker.db


def intent(**changes: Any) -> Intent:
    return replace(Intent(str(uuid4()), 1, "first", "openai", "m", CENT), **changes)


def spent(cents: str) -> Outcome:
    return Outcome("ok", Decimal(cents) / 100, "prices", "v1")


STALL_S = 0.25


@asynccontextmanager
async def watching(*trackers: CostTracker) -> AsyncIterator[Callable[[], bool]]:
    """Tell whether this process or the database stood still.

    For whom a lease is called back waits a second for it: what stands still for as long is given
    up, and rightly.
    """
    slowest_s = 0.0
    for tracker in trackers:
        wire(tracker).slowest_s = 0.0

    async def tick() -> None:
        nonlocal slowest_s
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            slowest_s = max(slowest_s, time.monotonic() - before)

    ticks = asyncio.create_task(tick())
    try:
        yield lambda: max(slowest_s, *(wire(t).slowest_s for t in trackers)) > STALL_S
    finally:
        ticks.cancel()


async def pay(tracker: CostTracker, cents: str = "0.1", **changes: Any) -> Hold:
    hold = await tracker.reserve(intent(**changes))
    await asyncio.sleep(0)
    tracker.settle(hold, spent(cents))
    return hold


async def warm(tracker: CostTracker) -> None:
    """Take a lease: the second call at once does, and later ones by what was spent."""
    await asyncio.gather(*(pay(tracker) for _ in range(20)))


def lease_request(project: str, limit: dict[str, str]) -> dict[str, Any]:
    """What a process asks for that is never heard of again."""
    intended = intent().row(project)
    return {
        "requests": [
            {
                "hold_id": str(uuid4()),
                "project": project,
                "bound_nano": CENT,
                "ttl_s": 60,
                "limits": [limit],
                "row": intended,
            }
        ],
        "lease": {
            "lease_id": str(uuid4()),
            "owner": "silent",
            "wish_nano": 10**12,
            "floor_nano": 1,
            "use_s": 60,
            "ttl_s": 60,
        },
    }


def held(url: str) -> int:
    return servers.fetch(url, "SELECT sum(held_nano)::bigint FROM llm_budget_counters")[0][0]


def leases(url: str) -> list[int]:
    return [n for (n,) in servers.fetch(url, "SELECT left_nano FROM llm_leases ORDER BY ends_at")]


@pytest.mark.parametrize("at_once", [1, 64])
async def test_a_tenth_of_a_transaction_per_call(
    process: Any, database_url: str, at_once: int
) -> None:
    tracker = process()
    await warm(tracker)
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with gate:
            await pay(tracker)

    wire(tracker).calls.clear()
    await asyncio.gather(*(one() for _ in range(1000)))
    assert sum(wire(tracker).calls.values()) <= 100
    await tracker.flush()
    assert await tracker.get_daily_cost() == Decimal("1.02")
    assert held(database_url) == 0


async def test_a_row_that_a_lease_served_is_on_its_day(process: Any, database_url: str) -> None:
    tracker = process()
    await warm(tracker)
    hold = await pay(tracker)
    assert (hold.row["bound_nano"], len(hold.row["lease_id"])) == (CENT, 36)
    await tracker.flush()
    query = "SELECT DISTINCT accounted_on = llm_today('test') FROM cost_tracking"
    assert servers.fetch(database_url, query) == [(True,)]


async def test_processes_with_leases_admit_exactly_what_fits(
    process: Any, database_url: str
) -> None:
    """What one leased and did not use refuses nobody; what it costs is never exceeded."""
    first, second = process("10"), process("10")
    await pay(first, "900", bound_nano=9 * 100 * CENT)
    await first.flush()

    async def call(tracker: CostTracker) -> bool:
        try:
            hold = await tracker.reserve(intent())
        except BudgetExceededError:
            return False
        await asyncio.sleep(0.02)
        tracker.settle(hold, spent("1"))
        return True

    admitted, is_over = 0, False
    while not is_over:
        async with watching(first, second) as stood_still:
            calls = (call(t) for _ in range(75) for t in (first, second))
            admitted += sum(await asyncio.gather(*calls))
        is_over = admitted >= 100 or not stood_still()
    assert admitted == 100
    assert leases(database_url), "no lease was in play"
    await asyncio.gather(first.flush(), second.flush())
    assert await first.get_daily_cost() == 10
    assert held(database_url) == 0


async def test_an_idle_lease_is_given_back_by_itself(process: Any, database_url: str) -> None:
    tracker = process()
    await warm(tracker)
    assert sum(leases(database_url)) > 0
    await children.until(lambda: held(database_url) == 0)
    assert sum(leases(database_url)) == 0


async def test_the_lease_of_a_busy_process_is_called_back(process: Any, database_url: str) -> None:
    busy, other = process("10"), process("10")
    await warm(busy)
    on_the_wire = [await busy.reserve(intent()) for _ in range(2)]
    assert any(leases(database_url))

    stop = asyncio.Event()

    async def keep_calling() -> None:
        while not stop.is_set():
            await pay(busy, "0.0001", bound_nano=CENT // 1000)
            await asyncio.sleep(0.02)

    calls = asyncio.create_task(keep_calling())
    hold = None
    while hold is None:
        async with watching(busy, other) as stood_still:
            try:
                # All that is left but the busy process's own few calls.
                hold = await other.reserve(intent(bound_nano=993 * CENT))
            except BudgetExceededError:
                assert stood_still()
    stop.set()
    await calls
    for each, tracker in [(on_the_wire[0], busy), (on_the_wire[1], busy), (hold, other)]:
        tracker.settle(each, spent("0"))
    await asyncio.gather(busy.flush(), other.flush())
    assert held(database_url) == 0


async def test_its_own_idle_lease_refuses_no_call_of_a_process(process: Any) -> None:
    tracker = process("10")
    await warm(tracker)
    tracker.settle(await tracker.reserve(intent(bound_nano=997 * CENT)), spent("0"))


async def test_an_owner_that_does_not_answer_is_waited_for_once(
    process: Any, db: Database, database_url: str
) -> None:
    limit = {"scope": "project", "scope_id": "test", "window": "day", "limit_usd": "10"}
    silent = lease_request("test", limit)
    await db.call("llm_reserve", silent)
    tracker = process("10")
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent(bound_nano=999 * CENT))
    assert wire(tracker).calls["llm_reserve"] > 1
    # Of its second no more than a moment can be left, or all of it where the first answer was slow.
    past = "UPDATE llm_leases SET recalled_at = recalled_at - interval '1 second'"
    servers.execute(database_url, past)
    wire(tracker).calls.clear()
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(intent(bound_nano=999 * CENT))
    assert wire(tracker).calls["llm_reserve"] == 1
    assert leases(database_url) == [10 * CENT]


async def test_limits_of_a_user_are_held_call_by_call(process: Any, database_url: str) -> None:
    tracker = process()
    tracker.limit("user", "u", "day", 100)
    await asyncio.gather(*(pay(tracker, user_id="u") for _ in range(20)))
    assert leases(database_url) == []
    await warm(tracker)
    assert len(leases(database_url)) == 1


async def test_a_lowered_limit_binds_new_grants_at_once(process: Any) -> None:
    rich, poor = process(), process("0.02")
    await warm(rich)
    await rich.flush()
    with pytest.raises(BudgetExceededError):
        await poor.reserve(intent())


async def test_cancelled_callers_leave_nothing_held(process: Any, database_url: str) -> None:
    tracker = process("10")
    await warm(tracker)
    await tracker.flush()
    for before_s, after_s in [(0, 0.05), (0.05, 0)]:
        wire(tracker).before_s, wire(tracker).after_s = before_s, after_s
        for _ in range(2):
            calls = [asyncio.create_task(tracker.reserve(intent())) for _ in range(30)]
            await asyncio.sleep(0.03)
            for call in calls:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            for hold in done:
                if isinstance(hold, Hold):
                    tracker.settle(hold, spent("0"))
            await children.until(lambda: not ledger_for(tracker.db).grants._tasks)
    wire(tracker).before_s = wire(tracker).after_s = 0
    await tracker.flush()
    assert held(database_url) == 0
    assert await tracker.get_daily_cost() == Decimal("0.02")


async def test_an_answer_that_is_lost_leaves_nothing_held(process: Any, database_url: str) -> None:
    tracker = process()
    await warm(tracker)
    await tracker.flush()
    wire(tracker).loses = {"llm_reserve"}
    results = await asyncio.gather(*(pay(tracker) for _ in range(30)), return_exceptions=True)
    assert {type(result) for result in results} == {DatabaseUnavailableError}
    assert held(database_url) > 0
    wire(tracker).loses = set()
    await tracker.flush()
    assert held(database_url) == 0
    assert ledger_for(tracker.db).spool.is_empty


async def test_a_settlement_whose_answer_is_lost_is_repeated(
    process: Any, database_url: str
) -> None:
    tracker = process()
    await warm(tracker)
    wire(tracker).loses = {"llm_settle"}
    with pytest.raises(DatabaseUnavailableError):
        await tracker.flush()
    assert not ledger_for(tracker.db).spool.is_empty
    wire(tracker).loses = set()
    await tracker.flush()
    assert held(database_url) == 0
    assert await tracker.get_daily_cost() == Decimal("0.02")


async def test_one_bad_call_spoils_no_other(process: Any) -> None:
    """A label that the database can't take fails its own call only."""
    tracker = process()
    tracker.limit("user", "u", "day", 100)
    calls = [pay(tracker, user_id="u"), pay(tracker, user_id="u", operation_id="no id")]
    results = await asyncio.gather(*calls, pay(tracker, user_id="u"), return_exceptions=True)
    assert [isinstance(result, DatabaseError) for result in results] == [False, True, False], (
        results
    )
    await tracker.get_daily_cost()


async def test_threads_share_the_leases_of_their_process(process: Any, database_url: str) -> None:
    tracker = process()
    await warm(tracker)

    async def some() -> None:
        await asyncio.gather(*(pay(tracker) for _ in range(50)))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, some()) for _ in range(4)))
    await tracker.flush()
    assert await tracker.get_daily_cost() == Decimal("0.22")
    assert held(database_url) == 0
    assert sum(leases(database_url)) == 0


async def test_the_end_of_a_loop_gives_leases_back(process: Any, database_url: str) -> None:
    tracker = process()
    await asyncio.to_thread(asyncio.run, warm(tracker))
    assert leases(database_url)
    assert held(database_url) == 0


async def test_what_a_loop_left_unfinished_is_brought_by_the_next(
    process: Any, database_url: str
) -> None:
    """A loop that is closed without ado takes the batch that it was bringing with it."""
    tracker = process()
    wire(tracker).before_s = 0

    def die() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(pay(tracker))
        wire(tracker).before_s = 3600
        under_way = ledger_for(tracker.db)._sending
        loop.run_until_complete(children.until(lambda: bool(under_way.get(loop))))
        loop.run_until_complete(pool.close())
        loop.close()

    await asyncio.to_thread(die)
    wire(tracker).before_s = 0
    assert await tracker.get_daily_cost() == Decimal("0.001")
    assert held(database_url) == 0


async def test_a_flush_brings_what_another_loop_is_bringing(
    process: Any, database_url: str
) -> None:
    tracker = process()
    wire(tracker).before_s = 0
    is_under_way, is_read = threading.Event(), threading.Event()

    async def hang() -> None:
        await pay(tracker)
        wire(tracker).before_s = 2
        under_way = ledger_for(tracker.db)._sending
        await children.until(lambda: bool(under_way.get(asyncio.get_running_loop())))
        is_under_way.set()
        await asyncio.to_thread(is_read.wait, 60)

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, hang()))
    await asyncio.to_thread(is_under_way.wait, 60)
    wire(tracker).before_s = 0
    try:
        assert await tracker.get_daily_cost() == Decimal("0.001")
    finally:
        is_read.set()
        await other
    # It arrives a second time, and counts once.
    assert await tracker.get_daily_cost() == Decimal("0.001")
    assert held(database_url) == 0


async def test_an_abandoned_stream_is_settled_after_the_end_of_its_loop(
    process: Any, database_url: str
) -> None:
    tracker = process()
    streams = []

    async def stream() -> AsyncIterator[int]:
        hold = await tracker.reserve(intent())
        try:
            yield 1
            yield 2
        finally:
            tracker.settle(hold, spent("0.3"))

    async def leave() -> None:
        streams.append(stream())
        await anext(streams[0])

    await asyncio.to_thread(asyncio.run, leave())
    assert await tracker.get_daily_cost() == Decimal("0.003")
    assert held(database_url) == 0


@pytest.mark.parametrize("spool", ["disk", "database"])
async def test_through_the_supabase_client(supabase_lite: SupabaseLite, spool: Any) -> None:
    client = await acreate_client(supabase_lite.url, supabase_lite.secret_key)
    project = str(uuid4())
    tracker = CostTracker(client, project=project, daily_budget_usd=1000, spool=spool)
    await warm(tracker)
    await warm(tracker)
    assert await tracker.get_daily_cost() == Decimal("0.04")
    (budget,) = await tracker.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.04"), 0)
    granted = servers.fetch(
        supabase_lite.database_url, f"SELECT 1 FROM llm_leases WHERE project = '{project}'"
    )
    assert bool(granted) == (spool == "disk")
    await client.postgrest.session.aclose()
