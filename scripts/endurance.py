"""What a long-lived process holds: memory over 100,000 calls, and 1,000 streams at once.

Every call goes through a strict budget and the durable ledger. Resident memory is read from the
operating system after every tenth of the calls; it is flat when the second half adds less than
`FLAT` to what the first left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import bench_server
from peers import AT_ONCE, MAX_TOKENS, MESSAGES, MODEL, at_once, database

CALLS = 100_000
STREAMS = 1_000
FLAT = 0.05


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def spool_kib() -> float:
    """Return how much disk the spools take."""
    files = (Path(os.environ["LLM_COMMON_STATE_DIR"]) / "spool").rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1024


async def rows(where: str) -> int:
    """Count rows of the ledger."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(os.environ["BENCH_DATABASE"]) as connection:
        cursor = await connection.execute(
            "SELECT count(*) FROM cost_tracking WHERE status = 'ok' AND step = %s", (where,)
        )
        row = await cursor.fetchone()
    return row[0] if row else 0


async def memory(calls: int) -> bool:
    """Make the calls; return whether memory stayed flat and the ledger has every one."""
    from llm_common import CostTracker, LLMClient, providers

    tracker = CostTracker(os.environ["BENCH_DATABASE"], project="bench", daily_budget_usd=10**6)
    client = LLMClient("openai", model=MODEL, cost_tracker=tracker)
    held: list[float] = []
    for tenth in range(1, 11):
        begun = time.perf_counter()
        await at_once(
            lambda: client.chat(MESSAGES, max_tokens=MAX_TOKENS, step="memory"),
            calls // 10,
            AT_ONCE[-1],
        )
        held.append(resident_mib())
        rate = calls // 10 / (time.perf_counter() - begun)
        print(
            f"{tenth * calls // 10:>9,} calls  {held[-1]:6.1f} MiB  {rate:5.0f} calls/s", flush=True
        )
    spool = spool_kib()
    await tracker.flush()
    recorded = await rows("memory")
    grown = held[-1] / held[4] - 1
    print(f"second half: {grown:+.1%} (to reach: at most {FLAT:+.0%})")
    print(f"spool on disk: {spool:,.0f} KiB; ledger: {recorded:,} rows")
    await tracker.aclose()
    await providers.aclose()
    return grown <= FLAT and recorded == calls


async def streams(number: int) -> bool:
    """Read streams, all at once; return whether each came whole and is in the ledger."""
    from llm_common import CostTracker, LLMClient, providers

    tracker = CostTracker(os.environ["BENCH_DATABASE"], project="bench", daily_budget_usd=10**6)
    client = LLMClient("openai", model=MODEL, cost_tracker=tracker)
    wanted = "word " * bench_server.WORDS
    open_now = most = 0

    async def read() -> bool:
        nonlocal open_now, most
        text = ""
        async for delta in client.stream(MESSAGES, max_tokens=MAX_TOKENS, step="streams"):
            if not text:
                open_now += 1
                most = max(most, open_now)
            text += delta.text
        open_now -= 1
        return text == wanted

    begun = time.perf_counter()
    whole = sum(await asyncio.gather(*(read() for _ in range(number))))
    took = time.perf_counter() - begun
    await tracker.flush()
    recorded = await rows("streams")
    ideal = bench_server.WORDS * bench_server.PAUSE_S
    print(
        f"{number:,} streams: {whole:,} whole, {recorded:,} in the ledger, {most:,} open at once, "
        f"{took:.1f} s (the server takes {ideal:.0f} s for one), {resident_mib():.0f} MiB"
    )
    await tracker.aclose()
    await providers.aclose()
    return whole == recorded == number


def main() -> None:
    """Run both; exit code 1 when one falls short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--streams", type=int, default=STREAMS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llm_common_bench_") as folder, bench_server.running():
        os.environ["LLM_COMMON_STATE_DIR"] = folder
        os.environ["BENCH_DATABASE"] = asyncio.run(database())
        # Both run, whatever comes of the first.
        reached = [asyncio.run(streams(arguments.streams)), asyncio.run(memory(arguments.calls))]
    if not all(reached):
        sys.exit("a goal is missed")


if __name__ == "__main__":
    main()
