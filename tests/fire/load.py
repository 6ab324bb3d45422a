"""A process that makes calls under a strict budget: `python -m tests.fire.load`, told by `LOAD`.

It prints "ready", waits for a line, works, and prints what came of its calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter

from llm_common import CostTracker, LLMClient
from llm_common.errors import LLMCommonError

MODEL, MAX_TOKENS = "gpt-4o", 64


def question(step: str) -> list[dict[str, str]]:
    """Name the call in its message: so the server's invoice and the ledger can be laid together."""
    return [{"role": "user", "content": f"call {step:>12}"}]


class Load:
    """The calls of one process, and what came of them."""

    def __init__(self, name: str, costs: CostTracker) -> None:
        self._name = name
        self._llm = LLMClient("openai", model=MODEL, cost_tracker=costs)
        self._number = 0
        self.ends: Counter[str] = Counter()

    async def burst(self) -> None:
        """Make one call against the small budget."""
        await self._end(self._llm.chat, tags=["burst"])

    async def go_on(self, until: float) -> None:
        """Make one call after the other: answers, streams, and streams that are left half-way."""
        kinds = (self._llm.chat, self._read, self._llm.chat, self._leave)
        while time.monotonic() < until:
            kind = kinds[self._number % len(kinds)]
            if not await self._end(kind):
                await asyncio.sleep(0.2)

    async def _end(self, call, **options) -> bool:
        self._number += 1
        step = f"{self._name}-{self._number}"
        try:
            await call(question(step), max_tokens=MAX_TOKENS, step=step, **options)
        except LLMCommonError as error:
            self.ends[type(error).__name__] += 1
            return False
        self.ends["ok"] += 1
        return True

    async def _read(self, messages, **options) -> None:
        async for _ in self._llm.stream(messages, **options):
            pass

    async def _leave(self, messages, **options) -> None:
        async with self._llm.stream(messages, **options) as stream:
            await anext(stream)


async def main() -> None:
    """Do what `LOAD` says: name, number at once, seconds (0: one call each), limit."""
    load = json.loads(os.environ["LOAD"])
    costs = CostTracker(project="fire", daily_budget_usd=load["daily_usd"])
    costs.limit("tag", "burst", "total", load["burst_usd"])
    calls = Load(load["name"], costs)
    await costs.get_budgets()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    until = time.monotonic() + load["seconds"]
    work = [
        calls.go_on(until) if load["seconds"] else calls.burst() for _ in range(load["at_once"])
    ]
    await asyncio.gather(*work)
    await costs.aclose()
    print(json.dumps(calls.ends), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
