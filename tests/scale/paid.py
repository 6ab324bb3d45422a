"""A pipeline of two paid steps; each call says in its prompt what it is for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llm_common import CostTracker, LLMClient
from llm_common.runs import Pipeline, Retries, UnitRun

PROJECT = "chaos"
STEPS = ("first", "second")


def made() -> Pipeline:
    """Make the pipeline in the worker's process."""
    costs = CostTracker(os.environ["DATABASE_URL"], project=PROJECT)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)

    async def ask(purpose: str) -> str:
        return await llm.chat([{"role": "user", "content": f"call {purpose:>24}"}], max_tokens=64)

    async def unit(run: UnitRun, given: Mapping[str, Any]) -> Any:
        for step in STEPS:
            await run.step(step, ask, {"purpose": f"{run.unit_key}/{step}"})
        return "asked"

    return Pipeline("paid", unit, retries=Retries(times=8, delay_s=0.2))
