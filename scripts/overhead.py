"""What a call costs beside the provider's answer: `make bench`.

The same short chat to the same provider server on loopback, by the bare openai client and by
`LLMClient` with its ledger in an embedded Postgres; the best of three rounds. Absolute figures
depend on the machine; the ratio to the bare client says more. CPU is that of this process: the
provider server and Postgres have their own. Transactions are those that the database committed,
reserving and settling together.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager

import psycopg

MESSAGES = [{"role": "user", "content": "Name the capital of France."}]
CALLS = 1000
ROUNDS = 2
WARM_UP = 20
AT_ONCE = 64

Call = Callable[[], Awaitable[object]]


@contextmanager
def provider_server():
    """Run the provider server as a process, so that its work is not counted as ours."""
    command = [sys.executable, "-m", "llm_common.testing"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        os.environ.update(json.loads(process.stdout.readline())["environment"])
        yield
    finally:
        process.communicate(timeout=10)


async def committed(url: str) -> int:
    """Return how many transactions the database has committed."""
    # Statistics arrive up to a second late, and this connection counts as well.
    await asyncio.sleep(1.5)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        cursor = await connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        return (await cursor.fetchone())[0]


async def timed(call: Call, at_once: int, drain: Call, url: str) -> tuple[float, float, float]:
    """Return CPU and wall milliseconds and transactions per call, until the ledger has its rows."""
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with gate:
            await call()

    await asyncio.gather(*(one() for _ in range(WARM_UP)))
    before = await committed(url)
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CALLS)))
    await drain()
    spent = time.process_time() - cpu, time.perf_counter() - wall
    transactions = await committed(url) - before
    return spent[0] / CALLS * 1000, spent[1] / CALLS * 1000, transactions / CALLS


async def measure() -> None:
    """Print a line for each client."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    from llm_common import CostTracker, LLMClient
    from llm_common.database import migrations
    from llm_common.database.embedded import embedded_url

    await migrations.up("embedded")
    plain = CostTracker("embedded", project="overhead")
    limited = CostTracker("embedded", project="overhead", daily_budget_usd=1000)
    diskless = CostTracker("embedded", project="diskless", daily_budget_usd=1000, spool="database")
    bare = AsyncOpenAI(max_retries=0, http_client=DefaultAioHttpClient())
    ledger = LLMClient("openai", model="gpt-4o", cost_tracker=plain)
    budget = LLMClient("openai", model="gpt-4o", cost_tracker=limited)
    no_disk = LLMClient("openai", model="gpt-4o", cost_tracker=diskless)

    async def bare_chat() -> object:
        return await bare.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, max_completion_tokens=64
        )

    clients: dict[str, Call] = {
        "openai client": bare_chat,
        "LLMClient, ledger": lambda: ledger.chat(MESSAGES, max_tokens=64),
        "LLMClient, ledger and daily budget": lambda: budget.chat(MESSAGES, max_tokens=64),
        "LLMClient, spool in the database": lambda: no_disk.chat(MESSAGES, max_tokens=64),
    }
    url = await embedded_url()
    for at_once in (1, AT_ONCE):
        title = f"{at_once} in flight"
        print(f"{title:37}CPU ms/call     wall ms/call    transactions/call")
        rounds = [
            [await timed(call, at_once, plain.flush, url) for call in clients.values()]
            for _ in range(ROUNDS)
        ]
        best = [tuple(map(min, zip(*of_one, strict=True))) for of_one in zip(*rounds, strict=True)]
        for name, (cpu, wall, transactions) in zip(clients, best, strict=True):
            print(
                f"  {name:34} {cpu:5.2f} x{cpu / best[0][0]:.2f}    {wall:5.2f} "
                f"x{wall / best[0][1]:.2f}    {transactions:.3f}"
            )
    await limited.aclose()
    await bare.close()


def main() -> None:
    """Measure in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder, provider_server():
        os.environ["LLM_COMMON_STATE_DIR"] = folder
        asyncio.run(measure())


if __name__ == "__main__":
    main()
