"""What a host runs: one call, and what it cost."""

from __future__ import annotations

import asyncio
import sys

from llm_common import CostTracker, LLMClient


async def main() -> None:
    costs = CostTracker(sys.argv[1], project="host", daily_budget_usd=1)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    print(await llm.chat([{"role": "user", "content": "A host asks this."}]))
    cost = await costs.get_daily_cost()
    print(f"cost {cost:f}, unpriced {cost.unpriced}")
    await costs.aclose()


asyncio.run(main())
