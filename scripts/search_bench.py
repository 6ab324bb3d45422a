"""What an answer from the search cache costs, next to a bare round trip: `make bench`.

Medians of calls that take turns in one process, on one pool. Exits 1 when a hit in Postgres takes
more than twice a `SELECT 1`, or a hit in memory more than 20 microseconds, at ten results each.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from peers import database

from llm_common import CostTracker, WebSearchClient
from llm_common.database import pool
from llm_common.testing import Answer, ProviderServer

ROUNDS = 3_000
TIMES_A_ROUND_TRIP = 2.0
MEMORY_US = 20.0
QUERY = "rent cap vacancy study"
RESULTS = [
    {
        "title": f"Study {number} of rents, vacancies and what became of the tenants | Example",
        "link": f"https://www.example.gov/studies/2026/rents-and-vacancies-part-{number}",
        "snippet": "The cap on rents held, and so did the share of flats that stood empty: "
        f"after four years {number} of a hundred had no tenant, about as many as before.",
        "date": "Mar 1, 2026",
        "position": number,
    }
    for number in range(1, 11)
]

Call = Callable[[], Awaitable[Any]]


async def medians(*calls: Call) -> list[float]:
    """Return the median microseconds of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS + ROUNDS // 10):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            await call()
            if turn >= ROUNDS // 10:
                taken.append((time.perf_counter() - began) * 1e6)
    return [statistics.median(taken) for taken in times]


async def measure(url: str) -> list[float]:
    """Return the medians of a round trip, a hit in Postgres and a hit in memory."""
    costs = CostTracker(url, project="bench")
    stored = WebSearchClient(engine="serper", cost_tracker=costs, memory_cache_ttl=0)
    remembered = WebSearchClient(engine="serper", cost_tracker=costs)
    for client in (stored, remembered):
        assert len(await client.search(QUERY)) == len(RESULTS)
    connections = pool.acquire(url, stored)

    async def round_trip() -> None:
        async with connections.connection() as connection:
            cursor = await connection.execute("SELECT 1")
            await cursor.fetchone()

    async def from_database() -> None:
        assert len(await stored.search(QUERY)) == len(RESULTS)

    async def from_memory() -> None:
        assert len(await remembered.search(QUERY)) == len(RESULTS)

    found = await medians(round_trip, from_database, from_memory)
    for client in (stored, remembered):
        await client.aclose()
    await costs.aclose()
    await pool.close()
    return found


async def run(url: str) -> int:
    """Fill the cache, measure, and print."""
    async with ProviderServer() as server:
        os.environ.update(server.environment())
        server.script(Answer(json={"organic": RESULTS}))
        trip, database, memory = await measure(url)
        assert len(server.requests) == 1
    print(f"SELECT 1 on the pool                  {trip:8.1f} us   1.00")
    print(f"search answered by Postgres           {database:8.1f} us   {database / trip:.2f}")
    print(f"search answered by memory             {memory:8.1f} us   {memory / trip:.2f}")
    print(f"bounds: {TIMES_A_ROUND_TRIP:.2f} round trips, {MEMORY_US:.0f} us")
    return int(database > TIMES_A_ROUND_TRIP * trip or memory > MEMORY_US)


def main() -> int:
    """Measure on an embedded server of this script's own."""
    with tempfile.TemporaryDirectory(prefix="llm_common_bench_") as folder:
        os.environ["LLM_COMMON_STATE_DIR"] = folder
        return asyncio.run(run(asyncio.run(database())))


if __name__ == "__main__":
    sys.exit(main())
