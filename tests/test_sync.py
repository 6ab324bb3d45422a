"""The facade for threads: one loop, one client, one budget."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llm_common import CostTracker, LLMClient, Rollout, WebSearchClient, context, providers, sync
from llm_common.database import pool
from llm_common.errors import (
    BudgetExceededError,
    InvalidInputError,
    LLMCommonError,
    RateLimitedError,
)
from llm_common.pricing import price_of
from llm_common.rollout.commands import change, wanted
from llm_common.search import http as search_http
from llm_common.sync import SyncCostTracker, SyncLLMClient, SyncRollout, SyncWebSearchClient
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage
from tests import children
from tests.servers import fetch

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]
THREADS = 20
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


class County(BaseModel):
    name: str


@pytest.fixture(autouse=True)
async def transports(fake: ProviderServer) -> AsyncIterator[None]:
    """What the shared loop opened towards this test's servers goes with them."""
    yield

    async def close() -> None:
        await providers.aclose()
        await search_http.close()
        await pool.close()

    await asyncio.to_thread(lambda: sync.run(close()))


async def in_threads(work: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """Run `work` in that many threads at once and return what each returned or raised."""

    def guarded(number: int) -> Any:
        try:
            return work(number)
        except LLMCommonError as error:
            return error

    with ThreadPoolExecutor(count) as executor:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(executor, guarded, n) for n in range(count))
        )


async def test_twenty_threads_share_one_client_and_its_budget(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    bound = llm.estimate(MESSAGES, max_tokens=100)
    assert bound is not None
    # Each costs all that it may: an early end makes room for nobody.
    price = price_of("openai", "gpt-4o")
    assert price is not None
    most = (bound - 100 * price.output) / price.input
    used = Usage(input_tokens=int(most), output_tokens=100)
    fake.script(*[Answer(text="Kern", usage=used, latency_s=0.05)] * THREADS)
    limited = LLMClient(
        "openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd=bound * 6 + Decimal("1e-9")
    )
    shared = SyncLLMClient(limited)
    answers = await in_threads(lambda _: shared.chat(MESSAGES, max_tokens=100))
    assert answers.count("Kern") == len(fake.requests) == 6
    assert sum(isinstance(a, BudgetExceededError) for a in answers) == THREADS - 6
    rows = await ledger()
    assert sum(r["cost_usd"] for r in rows if r["status"] == "ok") == fake.invoice.total_usd


async def test_labels_of_a_thread_hold_for_its_calls(costs: CostTracker, ledger: Ledger) -> None:
    llm = SyncLLMClient(LLMClient("openai", model="gpt-4o", cost_tracker=costs))

    def ask(number: int) -> None:
        with context.labels(user=f"u-{number}"):
            llm.chat(MESSAGES)

    assert await in_threads(ask, 5) == [None] * 5
    assert {row["user_id"] for row in await ledger()} == {f"u-{n}" for n in range(5)}


async def test_models_streams_vectors_and_errors_come_through(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = SyncLLMClient(LLMClient("openai", model="gpt-4o", cost_tracker=costs))
    fake.script(Answer(json={"name": "Kern"}))
    fake.script(Answer(text="Kern pays for all of it."))

    def work(_: int) -> None:
        assert llm.chat(MESSAGES, response_model=County) == County(name="Kern")
        with llm.stream(MESSAGES) as stream:
            assert "".join(delta.text for delta in stream) == "Kern pays for all of it."
        assert stream.response.text == "Kern pays for all of it."
        assert len(llm.embed(["a", "b"], "text-embedding-3-small").vectors) == 2
        for _ in range(3):
            fake.script(Fault.rate_limit(retry_after_s=60))
        with pytest.raises(RateLimitedError):
            llm.complete(MESSAGES)

    assert await in_threads(work, 1) == [None]
    assert [row["status"] for row in await ledger()] == ["ok", "ok", "ok", "error"]


async def test_a_stream_left_or_dropped_in_a_thread_is_recorded(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = SyncLLMClient(LLMClient("openai", model="gpt-4o", cost_tracker=costs))
    long = "The county of Kern pays for all of them. " * 3000

    def left(_: int) -> None:
        fake.script(Answer(text=long))
        with llm.stream(MESSAGES) as stream:
            next(iter(stream))

    def dropped(_: int) -> None:
        fake.script(Answer(text=long))
        next(iter(llm.stream(MESSAGES)))
        gc.collect()

    assert await in_threads(left, 1) == await in_threads(dropped, 1) == [None]

    async def recorded() -> bool:
        return [row["status"] for row in await ledger()] == ["cancelled", "cancelled"]

    await children.until(recorded)


async def test_costs_and_searches_for_threads(costs: CostTracker) -> None:
    tracker = SyncCostTracker(costs)
    search = SyncWebSearchClient(WebSearchClient(cost_tracker=costs))

    def work(_: int) -> None:
        tracker.limit("user", "u-1", "day", 1)
        search.search("shelters in Kern county")
        search.search("shelters in Kern county")
        assert search.get_cache_stats()["paid_searches"] == 1
        assert tracker.get_daily_cost() > 0

    assert await in_threads(work, 1) == [None]


async def test_a_thread_with_an_event_loop_is_told_to_await(costs: CostTracker) -> None:
    with pytest.raises(InvalidInputError, match="use the asynchronous class"):
        SyncCostTracker(costs).get_daily_cost()


@pytest.mark.parametrize(
    "facade", [getattr(sync, name) for name in sync.__all__ if name.startswith("Sync")]
)
def test_every_public_method_has_its_counterpart(facade: type) -> None:
    (base,) = facade.__orig_bases__
    (wrapped,) = base.__args__
    wrapped = getattr(wrapped, "__origin__", wrapped)
    public = {n for n, v in vars(wrapped).items() if inspect.isfunction(v) and n[0] != "_"}
    here = {n for n in vars(facade) if n[0] != "_"}
    # `reserve` and `settle` are for what makes calls, `show` for what records, `for_workers` for
    # workers, and those are asynchronous.
    inner = {"with_tracker", "reserve", "settle", "show", "for_workers"}
    expected = {"close" if n == "aclose" else n for n in public - inner}
    properties = {n for n, v in vars(wrapped).items() if isinstance(v, property)}
    assert expected <= here <= expected | properties


ENDS = """
import os, threading, time
from llm_common import CostTracker, LLMClient
from llm_common.sync import SyncLLMClient
llm = SyncLLMClient(LLMClient("openai", model="gpt-4o", cost_tracker=CostTracker()))
messages = [{"role": "user", "content": "Which county pays?"}]
threading.Thread(target=lambda: print(llm.chat(messages)), daemon=True).start()
while not os.path.exists(os.environ["MAY_END"]):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("answers_in_time", [True, False])
async def test_a_process_that_just_ends_has_recorded_its_calls(
    database_url: str, fake: ProviderServer, ledger: Ledger, tmp_path: Path, answers_in_time: bool
) -> None:
    fake.script(Answer(text="Kern", latency_s=0 if answers_in_time else 30))
    may_end = tmp_path / "may_end"
    process = await children.start(ENDS, DATABASE_URL=database_url, MAY_END=str(may_end))
    await children.until(lambda: len(fake.requests) == 1)
    if answers_in_time:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"Kern\n"
    may_end.touch()
    await children.output(process)
    (row,) = await ledger()
    assert row["status"] == ("ok" if answers_in_time else "cancelled")


async def test_a_forked_child_has_a_loop_of_its_own() -> None:
    code = """
import os
from llm_common import sync
async def one(): return 1
assert sync.run(one()) == 1
child = os.fork()
if child == 0:
    os._exit(0 if sync.run(one()) == 1 else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""
    assert await children.run(code) == "0"


async def test_a_rollout_between_plain_functions(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, database_url: str
) -> None:
    """More arms at once than the loop has threads, each of which waits for the loop."""
    llm = SyncLLMClient(LLMClient("anthropic", model="claude-haiku-4.5", cost_tracker=costs))
    rollout = SyncRollout(Rollout("threads", database_url))

    def ask() -> str:
        return f"{context.current().arm}: {llm.chat(MESSAGES)}"

    def use(number: int) -> str:
        def fail() -> str:
            raise RuntimeError

        new = fail if number == 0 else ask
        return rollout.run(f"unit-{number}", old=lambda: "served by the old arm", new=new)

    await asyncio.to_thread(rollout.start)
    await change(costs.db, "test", "threads", "set", reason="a test", to=wanted("on"))
    await children.until(lambda: asyncio.to_thread(lambda: rollout.arm("u") == "new"))
    answers = await in_threads(use, 40)
    await asyncio.to_thread(rollout.close)
    assert answers[0] == "served by the old arm"
    assert all(str(answer).startswith("new: ") for answer in answers[1:])
    rows = await ledger()
    assert len(rows) == 39
    spent = fetch(database_url, "SELECT sum(cost_usd) FROM llm_rollout_outcomes WHERE arm = 'new'")
    assert spent == [(sum(row["cost_usd"] for row in rows),)]


async def test_streams_blocks_and_a_decorator_of_plain_functions(database_url: str) -> None:
    rollout = SyncRollout(Rollout("threads", database_url))

    def items(*found: str, then: Exception | None = None) -> Iterator[str]:
        for item in found:
            yield f"{context.current().arm} {item}"
        if then is not None:
            raise then

    def old_one(number: int) -> str:
        return f"old {number}"

    @rollout.instead_of(old_one, unit=lambda number: number)
    def new_one(number: int) -> str:
        return f"new {number}"

    def work(value: str) -> list[Any]:
        failing = partial(items, then=RuntimeError())
        found = [
            new_one(7),
            list(rollout.stream("u", old=partial(items, "a"), new=partial(items, "b", "c"))),
            list(rollout.stream("u", old=partial(items, "a"), new=failing)),
        ]
        left = rollout.stream("u", old=partial(items, "a", "b"), new=partial(items, "a", "b"))
        next(left)
        left.close()
        with rollout.exposure("u") as shown:
            assert (shown.arm, context.current().arm) == (value, value)
        with pytest.raises(KeyError), rollout.exposure("u"):
            raise KeyError
        return found

    off = await asyncio.to_thread(work, "old")
    assert off == ["old 7", ["old a"], ["old a"]]
    async with Rollout("threads", database_url) as other:
        assert other.db is not None
        await change(other.db, "test", "threads", "set", reason="a test", to=wanted("on"))
    await children.until(lambda: asyncio.to_thread(lambda: rollout.arm("u") == "new"))
    on = await asyncio.to_thread(work, "new")
    assert on == ["new 7", ["new b", "new c"], ["old a"]]
    await asyncio.to_thread(rollout.close)
    rows = fetch(
        database_url,
        "SELECT e.reason, o.status, count(*) FROM llm_rollout_exposures e"
        " JOIN llm_rollout_outcomes o ON o.exposure_id = e.id GROUP BY 1, 2 ORDER BY 1, 2",
    )
    assert rows == [
        ("fell_back", "ok", 1),
        ("on", "cancelled", 1),
        ("on", "error", 2),
        ("on", "ok", 3),
        ("unset", "cancelled", 1),
        ("unset", "error", 1),
        ("unset", "ok", 4),
    ]
