"""CPU per chat call, against the peers in the same run: `make bench`.

Every client asks the same question of the same server on loopback, each in a process of its own;
the best of three rounds, which take turns. CPU is that of the client's process, all of its threads,
until its ledger has every row; the server and Postgres have their own. Ratios hold, milliseconds
depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import bench_server

MESSAGES = [{"role": "user", "content": "Name the capital of France."}]
MODEL, MAX_TOKENS = "gpt-4o", 64
WARM_UP, CALLS, ROUNDS = 500, 2000, 3
AT_ONCE = (1, 64)
RAW, ROUTER, OURS = "openai", "litellm.Router", "LLMClient, budget and ledger"
GOALS = {RAW: 1.5, ROUTER: 0.4}
"""The most that ours may take, as a multiple of a peer's CPU."""
GOAL_TRANSACTIONS = 0.1

Call = Callable[[], Awaitable[object]]
Client = tuple[Call, Call]
"""Sends one chat; waits until all that was sent is recorded."""


async def nothing() -> None:
    """Wait for nothing."""


@asynccontextmanager
async def raw_openai() -> AsyncIterator[Client]:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async with AsyncOpenAI(max_retries=0, http_client=DefaultAioHttpClient()) as client:
        yield (
            lambda: client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=MAX_TOKENS
            ),
            nothing,
        )


@asynccontextmanager
async def litellm_acompletion() -> AsyncIterator[Client]:
    import litellm

    litellm.suppress_debug_info = True
    yield (
        lambda: litellm.acompletion(
            model=f"openai/{MODEL}", messages=MESSAGES, max_tokens=MAX_TOKENS, num_retries=0
        ),
        nothing,
    )


@asynccontextmanager
async def litellm_router() -> AsyncIterator[Client]:
    from litellm import Router

    router = Router(
        model_list=[{"model_name": MODEL, "litellm_params": {"model": f"openai/{MODEL}"}}],
        num_retries=0,
    )
    yield (
        lambda: router.acompletion(model=MODEL, messages=MESSAGES, max_tokens=MAX_TOKENS),
        nothing,
    )


@asynccontextmanager
async def ours(**budgets: int) -> AsyncIterator[Client]:
    from llm_common import CostTracker, LLMClient, providers

    tracker = CostTracker(os.environ["BENCH_DATABASE"], project="bench", **budgets)
    client = LLMClient("openai", model=MODEL, cost_tracker=tracker)
    yield lambda: client.chat(MESSAGES, max_tokens=MAX_TOKENS), tracker.flush
    await tracker.aclose()
    await providers.aclose()


CLIENTS = {
    RAW: raw_openai,
    "litellm.acompletion": litellm_acompletion,
    ROUTER: litellm_router,
    "LLMClient, ledger": ours,
    OURS: lambda: ours(daily_budget_usd=1000, monthly_budget_usd=20000),
}


async def at_once(call: Call, calls: int, number: int) -> None:
    """Make so many calls, that many in flight."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(work() for _ in range(number)))


async def transactions() -> int | None:
    """Return how many transactions the database has committed, once it knows."""
    import psycopg

    await asyncio.sleep(1.5)  # Postgres' own statistics are up to a second late
    async with await psycopg.AsyncConnection.connect(os.environ["BENCH_DATABASE"]) as connection:
        query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        row = await (await connection.execute(query)).fetchone()
    return row[0] if row else None


async def measure(name: str, number: int) -> dict[str, float]:
    """Return CPU and wall milliseconds, and transactions, per call of one client."""
    async with CLIENTS[name]() as (call, recorded):
        await at_once(call, WARM_UP, number)
        await recorded()
        counted = name.startswith("LLMClient")
        before = await transactions() if counted else 0
        cpu, wall = time.process_time(), time.perf_counter()
        await at_once(call, CALLS, number)
        await recorded()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        # One of them is the question itself.
        committed = (await transactions() - before - 1) if counted else 0
    return {
        "cpu_ms": cpu / CALLS * 1000,
        "wall_ms": wall / CALLS * 1000,
        "transactions": committed / CALLS,
    }


def measured_apart(name: str, number: int) -> dict[str, float]:
    """Measure in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--client", name, "--at-once", str(number)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(run.stdout)


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of each figure."""
    return {key: min(r[key] for r in rounds) for key in rounds[0]}


def compare() -> bool:
    """Print a table for each number in flight; return whether every goal is reached."""
    reached = True
    for number in AT_ONCE:
        rounds = [{name: measured_apart(name, number) for name in CLIENTS} for _ in range(ROUNDS)]
        figures = {name: best([r[name] for r in rounds]) for name in CLIENTS}
        raw, router = figures[RAW]["cpu_ms"], figures[ROUTER]["cpu_ms"]
        print(
            f"\n| {number} in flight | CPU | of openai's | of the Router's | wall | transactions |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        for name, of in figures.items():
            cpu = of["cpu_ms"]
            committed = f"{of['transactions']:.3f}" if name.startswith("LLMClient") else ""
            print(
                f"| {name} | {cpu:.2f} ms | {cpu / raw:.2f} | {cpu / router:.2f} "
                f"| {of['wall_ms']:.2f} ms | {committed} |"
            )
        for peer, goal in GOALS.items():
            ratio = figures[OURS]["cpu_ms"] / figures[peer]["cpu_ms"]
            reached &= ratio <= goal
            print(f"{OURS}: {ratio:.2f} of {peer} (to reach: {goal})")
        committed = figures[OURS]["transactions"]
        reached &= committed <= GOAL_TRANSACTIONS
        print(f"transactions per call: {committed:.3f} (to reach: {GOAL_TRANSACTIONS})")
    return reached


async def database() -> str:
    """Make the schema in an embedded Postgres, and return its address."""
    from llm_common.database import embedded, migrations

    await migrations.up("embedded")
    return await embedded.embedded_url()


def main() -> None:
    """Measure one client, or compare them all; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--client", choices=CLIENTS)
    parser.add_argument("--at-once", type=int, default=1)
    arguments = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if arguments.client:
        print(json.dumps(asyncio.run(measure(arguments.client, arguments.at_once))))
        return
    with tempfile.TemporaryDirectory(prefix="llm_common_bench_") as folder, bench_server.running():
        os.environ["LLM_COMMON_STATE_DIR"] = folder
        os.environ["BENCH_DATABASE"] = asyncio.run(database())
        if not compare():
            sys.exit("a goal is missed")


if __name__ == "__main__":
    main()
