"""Rate limits of a key: in a process, in threads, and over processes through Postgres."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient, providers
from llm_common.database import Database, connect
from llm_common.errors import BudgetExceededError, DatabaseUnavailableError, RateLimitedError
from llm_common.limits import Entry, Shared, admit, gate
from llm_common.limits.gate import KEPT_LANES, Gate
from llm_common.limits.meter import Meter
from llm_common.testing import Answer, ProviderServer
from llm_common.types import Lane, RateLimits, Usage
from tests import children
from tests.servers import execute, fetch
from tests.support import within_a_minute

MESSAGES = [{"role": "user", "content": "Which county pays?"}]
LANE = Lane("lane", "openai/gpt-4o", "openai/gpt-4o KEY")


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(text: str) -> None:
        path = tmp_path / "registry.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("LLM_COMMON_REGISTRY", str(path))

    return write


class Away:
    """A database that can't be reached."""

    identity = "away"

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, function: str, payload: Any) -> Any:
        self.calls += 1
        raise DatabaseUnavailableError("away")

    async def aclose(self) -> None: ...


async def most_in_flight(fake: ProviderServer, calls: list[Any]) -> int:
    """Run calls and return how many the server had open at once, at most."""
    tasks = [asyncio.create_task(call) for call in calls]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(fake.requests) - sum(task.done() for task in tasks))
        await asyncio.sleep(0.005)
    for task in tasks:
        task.result()
    return most


async def test_requests_per_minute(fake: ProviderServer, costs: CostTracker, limit: Any) -> None:
    limit('[models."gpt-4o".limits]\nrpm = 3\n')
    llm = LLMClient("openai", cost_tracker=costs)
    for _ in range(3):
        await llm.chat(MESSAGES, model="gpt-4o")
    waiting = asyncio.create_task(llm.chat(MESSAGES, model="gpt-4o"))
    await asyncio.sleep(0.3)
    assert len(fake.requests) == 3
    waiting.cancel()
    # Another model of the key has no limit, and a cancelled one leaves its place.
    await llm.chat(MESSAGES, model="gpt-4o-mini")
    assert len(fake.requests) == 4


async def test_a_wait_that_is_cancelled_leaves_its_place() -> None:
    limits = RateLimits(rpm=1, max_concurrent=2)
    lane = Lane("cancelled", "openai/gpt-4o", "l", meters=(("cancelled", limits),))
    entry = Entry(1, time.monotonic() + 300, Shared("p", gate()), Away())
    meter = gate().meter("cancelled")
    with await admit(lane, 1.0, entry) as ticket:
        ticket.sent = True
    for _ in range(3):
        waiting = asyncio.create_task(admit(lane, 1.0, entry))
        await children.until(lambda: (meter.window.requests, meter.slots.in_flight) == (2, 1))
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (meter.window.requests, meter.slots.in_flight) == (1, 0)


async def test_a_limit_of_the_provider_is_the_keys_over_all_models(
    fake: ProviderServer, costs: CostTracker, limit: Any
) -> None:
    limit("[providers.openai.limits]\nrpm = 2\n")
    llm = LLMClient("openai", cost_tracker=costs)
    await llm.chat(MESSAGES, model="gpt-4o")
    await llm.chat(MESSAGES, model="gpt-4o-mini")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(llm.chat(MESSAGES, model="gpt-4o"), 0.3)
    assert len(fake.requests) == 2
    # Beyond patience, a fallback elsewhere is taken at once.
    await llm.chat_with_fallback(MESSAGES, models=["gpt-4o", "anthropic/claude-haiku-4.5"])
    assert fake.requests[-1].provider == "anthropic"


async def test_a_wait_beyond_the_wall_time_is_refused_unsent(
    fake: ProviderServer, costs: CostTracker, limit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_common.llm_client import conversation
    from llm_common.routing import Policy

    monkeypatch.setattr(conversation, "POLICY", Policy(wall_time_s=20))
    limit("[providers.openai.limits]\nrpm = 1\n")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES)
    with pytest.raises(RateLimitedError, match="nothing was sent") as caught:
        await llm.chat(MESSAGES)
    assert 20 < (caught.value.retry_after_s or 0) <= 60
    await costs.flush()
    assert len(fake.requests) == 1


async def test_tokens_per_minute_by_the_bound_and_then_by_what_was_used(
    fake: ProviderServer, costs: CostTracker, limit: Any
) -> None:
    limit("[providers.openai.limits]\ntpm = 10_000\n")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    usage = Usage(input_tokens=5, output_tokens=995)
    fake.script(*[Answer(text="Kern.", usage=usage)] * 20)
    for _ in range(2):
        await llm.chat(MESSAGES, max_tokens=7_900)
    # 2,000 are used: another bound of 8,000 would not fit beside them, one of 7,500 does.
    await llm.chat(MESSAGES, max_tokens=6_900)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(llm.chat(MESSAGES, max_tokens=7_900), 0.3)
    assert len(fake.requests) == 3


async def test_a_refused_budget_uses_nothing_up(
    fake: ProviderServer, db: Database, costs: CostTracker, limit: Any
) -> None:
    limit("[providers.openai.limits]\nrpm = 1\nmax_concurrent = 1\n")
    poor = CostTracker(db, daily_budget_usd="0.000001")
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            await LLMClient("openai", model="gpt-4o", cost_tracker=poor).chat(MESSAGES)
    await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)


async def test_requests_in_flight(fake: ProviderServer, costs: CostTracker, limit: Any) -> None:
    limit("[providers.openai.limits]\nmax_concurrent = 3\n")
    fake.latency_s = 0.1
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES)
    fake.requests.clear()
    assert await most_in_flight(fake, [llm.chat(MESSAGES) for _ in range(12)]) == 3
    assert len(fake.requests) == 12


async def test_the_limits_hold_over_threads(
    fake: ProviderServer, database_url: str, limit: Any
) -> None:
    limit("[providers.openai.limits]\nmax_concurrent = 2\n")
    fake.latency_s = 0.1

    async def ask() -> None:
        costs = CostTracker(database_url)
        llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
        await asyncio.gather(*(llm.chat(MESSAGES) for _ in range(3)))
        await costs.aclose()
        await providers.aclose()

    calls = [asyncio.to_thread(asyncio.run, ask()) for _ in range(4)]
    most, tasks = 0, [asyncio.create_task(call) for call in calls]
    while not all(task.done() for task in tasks):
        meters = [m.slots.in_flight for m in gate().meters.values()]
        most = max(most, *meters, 0)
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    assert len(fake.requests) == 12
    assert most == 2


COUNT = """
import asyncio, sys
from llm_common import CostTracker, LLMClient

async def main():
    costs = CostTracker()
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    async def one():
        try:
            async with asyncio.timeout({seconds}):
                await llm.chat([{{"role": "user", "content": "Hello?"}}])
            return 1
        except TimeoutError:
            return 0
    print(sum(await asyncio.gather(*(one() for _ in range({calls})))))
    await costs.aclose()

asyncio.run(main())
"""


TAKE = """
import asyncio, sys
from llm_common.database import connect
from llm_common.limits import gate, shared_for
from llm_common.limits.meter import Meter
from llm_common.types import Lane, RateLimits

async def main():
    db, limits, meter = connect(), RateLimits(rpm=40), Meter("m")
    shared, taken = shared_for(gate(), db, "test"), 0
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        booking = meter.book(limits, 1, 0.0)
        if await shared.take_rate(db, meter, limits, booking, Lane("l", "g", "l")) > 0:
            break
        taken += 1
        await asyncio.sleep(0.01)
    print(taken)
    await db.aclose()

asyncio.run(main())
"""


async def test_a_minute_is_shared_by_the_processes_of_a_project(database_url: str) -> None:
    takers = [await children.start(TAKE, DATABASE_URL=database_url) for _ in range(3)]
    for taker in takers:
        assert taker.stdout
        assert await taker.stdout.readline() == b"ready\n"
    await within_a_minute(20)
    for taker in takers:
        assert taker.stdin
        taker.stdin.write(b"go\n")
    counts = [await children.output(taker) for taker in takers]
    assert sum(map(int, counts)) == 40
    assert fetch(database_url, "SELECT requests FROM llm_rate_windows") == [(40,)]


async def test_a_call_waits_for_the_minute_that_is_shared(
    fake: ProviderServer, costs: CostTracker, database_url: str, limit: Any
) -> None:
    limit("[providers.openai.limits]\nrpm = 4\n")
    await within_a_minute(20)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES)
    # What the others have taken.
    execute(database_url, "UPDATE llm_rate_windows SET requests = 4")
    await llm.chat(MESSAGES)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(llm.chat(MESSAGES), 0.5)
    assert len(fake.requests) == 2


async def test_slots_are_shared_by_the_processes_of_a_project(
    fake: ProviderServer, database_url: str, limit: Any
) -> None:
    limit("[providers.openai.limits]\nmax_concurrent = 4\n")
    fake.latency_s = 0.2
    code = COUNT.format(calls=10, seconds=60)
    tasks = [asyncio.create_task(children.run(code, DATABASE_URL=database_url)) for _ in range(3)]
    most = 0
    while not all(task.done() for task in tasks):
        recorded = fetch(database_url, "SELECT coalesce(sum(slots), 0) FROM llm_slot_leases")
        most = max(most, int(recorded[0][0]))
        await asyncio.sleep(0.02)
    assert [task.result() for task in tasks] == ["10"] * 3
    assert 0 < most <= 4
    assert len(fake.requests) == 30


async def test_slots_that_are_not_needed_are_given_back(
    fake: ProviderServer, costs: CostTracker, database_url: str, limit: Any
) -> None:
    limit("[providers.openai.limits]\nmax_concurrent = 8\n")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await asyncio.gather(*(llm.chat(MESSAGES) for _ in range(8)))
    leased = "SELECT coalesce(sum(slots), 0)::int FROM llm_slot_leases"
    assert fetch(database_url, leased)[0][0] > 0
    await children.until(lambda: fetch(database_url, leased) == [(0,)])
    await llm.chat(MESSAGES)


async def test_few_transactions_are_needed(
    fake: ProviderServer, costs: CostTracker, database_url: str, limit: Any
) -> None:
    limit("[providers.openai.limits]\nrpm = 10_000\ntpm = 100_000_000\nmax_concurrent = 16\n")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    asked: list[str] = []
    real = costs.db.call

    async def counted(function: str, payload: Any) -> Any:
        asked.append(function)
        return await real(function, payload)

    costs.db.call = counted  # type: ignore[method-assign]
    for _ in range(20):
        await asyncio.gather(*(llm.chat(MESSAGES) for _ in range(16)))
    ours = [name for name in asked if name in ("llm_take_rate", "llm_take_slots", "llm_cooling")]
    assert len(ours) < 0.1 * 320
    assert asked.count("llm_take_rate") >= 1


async def test_without_the_database_each_process_keeps_to_them_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    db, own = Away(), Gate("me")
    project = Shared("p", own)
    meter, limits = Meter("m"), RateLimits(rpm=5, max_concurrent=2)
    with caplog.at_level("WARNING", "llm_common"):
        for _ in range(3):
            booking = meter.book(limits, 1, 0.0)
            assert await project.take_rate(db, meter, limits, booking, LANE) == 0
        grow = partial(project.grow, db, meter, 2, LANE)
        for _ in range(2):
            assert await meter.slots.enter(lambda: meter.capacity(2), time.monotonic(), grow)
        assert not await meter.slots.enter(lambda: meter.capacity(2), time.monotonic(), grow)
        await project.announce(db, LANE, 30)
        await project.refresh(db, alone=False)
    assert meter.capacity(2) == 2
    ours = [r for r in caplog.records if r.name.startswith("llm_common")]
    assert [r.getMessage() for r in ours] == ["limits.local error=DatabaseUnavailableError"]
    assert db.calls == 1
    project.look_again(meter)
    assert meter.granted is None, "it is away still"


async def test_a_take_counts_once_however_often_it_is_sent(database_url: str) -> None:
    db = connect(database_url)
    common = {"project": "p", "meter": "m", "label": "l", "rpm": 100, "tpm": None}
    await within_a_minute(10)
    take = {**common, "instance": "a", "take_id": "1", "requests": 1, "tokens": 0, "spare": None}
    first = await db.call("llm_take_rate", take)
    assert first["granted"]
    assert (first["requests"], first["tokens"]) == (50, None)
    assert await db.call("llm_take_rate", take) == first
    second = await db.call("llm_take_rate", {**take, "take_id": "2"})
    assert second["requests"] == 25
    other = await db.call("llm_take_rate", {**take, "instance": "b", "take_id": "3"})
    assert other["requests"] == 6  # 25 are left, for two: half of a half
    taken = "SELECT requests FROM llm_rate_windows"
    assert fetch(database_url, taken) == [(81,)]
    # What is handed back counts before it is shared out again; of another minute, it does not.
    spare = {"minute": first["minute"], "requests": 21, "tokens": None}
    exchanged = await db.call("llm_take_rate", {**take, "take_id": "3a", "spare": spare})
    assert exchanged["requests"] == 10
    assert fetch(database_url, taken) == [(70,)]
    stale = {**spare, "minute": first["minute"] - 60}
    await db.call("llm_take_rate", {**take, "take_id": "3b", "spare": stale})
    assert fetch(database_url, taken) == [(77,)]
    much = await db.call("llm_take_rate", {**take, "take_id": "4", "requests": 24})
    assert not much["granted"]
    assert 0 < float(much["resets_s"]) <= 60
    execute(
        database_url,
        "UPDATE llm_rate_windows SET window_start = window_start - interval '1 minute'",
    )
    # The next minute begins anew, for as many as there were in the last.
    again = await db.call("llm_take_rate", {**take, "take_id": "5"})
    assert again["requests"] == 25
    await db.aclose()


async def test_slots_expire_with_their_process(database_url: str) -> None:
    db = connect(database_url)
    ask = {"project": "p", "meter": "m", "label": "l", "limit": 5, "ttl_s": 60}

    async def take(instance: str, slots: int) -> int:
        payload = {**ask, "instance": instance, "slots": slots}
        return (await db.call("llm_take_slots", payload))["slots"]

    assert await take("a", 3) == 3
    assert await take("b", 4) == 2
    execute(
        database_url,
        "UPDATE llm_slot_leases SET expires_at = clock_timestamp() WHERE instance = 'a'",
    )
    assert await take("b", 4) == 4
    assert await take("b", 0) == 0
    assert await take("a", 9) == 5
    await db.aclose()


async def test_a_longer_cooldown_wins_and_an_event_counts_once(database_url: str) -> None:
    db = connect(database_url)
    event = {"project": "p", "lane": "x", "label": "l", "event_id": "0" * 31 + "1"}
    told = await db.call("llm_cool", {**event, "seconds": 10})
    assert 9 < float(told["seconds"]) <= 10
    again = await db.call("llm_cool", {**event, "seconds": 100})
    assert float(again["seconds"]) <= 10
    longer = {**event, "event_id": "0" * 31 + "2", "seconds": 50}
    assert float((await db.call("llm_cool", longer))["seconds"]) > 40
    shorter = {**event, "event_id": "0" * 31 + "3", "seconds": 5}
    assert float((await db.call("llm_cool", shorter))["seconds"]) > 40
    cooling = await db.call("llm_cooling", {"project": "p"})
    assert 40 < float(cooling["cooling"]["x"]) <= 50
    assert await db.call("llm_cooling", {"project": "q"}) == {"cooling": {}}
    await db.aclose()


def test_a_forked_child_starts_afresh() -> None:
    mine = gate()
    mine.cool("some-lane", 30)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fresh = gate()
            same = fresh.instance == mine.instance or "some-lane" in fresh.lanes
            os.write(writing, b"same" if same else b"fresh")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"fresh"
    assert "some-lane" in mine.lanes


def test_lanes_at_rest_are_forgotten_before_there_are_too_many() -> None:
    own = Gate("me")
    own.cool("cooling", 60)
    for number in range(3 * KEPT_LANES):
        lane = Lane(str(number), "g", "l")
        assert own.enter(lane, 1.0)
        own.leave(lane, None, sent=True)
    assert len(own.lanes) <= KEPT_LANES
    assert "cooling" in own.lanes
