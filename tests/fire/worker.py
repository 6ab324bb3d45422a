"""A process that makes as many calls as its budget admits: `python -m tests.fire.worker`.

It prints "ready" and waits for a line, so that several begin at once. `WORKER` in the environment
is JSON: `at_once` calls in flight, at most `calls` in all, `user`, and the arguments of the
tracker. It prints one line of JSON at its end: how many calls were `answered`, `refused` and, by
the type of their error, `failed`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

from llm_common import BudgetExceededError, CostTracker, LLMClient, LLMCommonError

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]
MAX_TOKENS = 64


async def work(at_once: int, calls: int, user: str | None, **tracker: Any) -> dict[str, Any]:
    """Call until the budget refuses or the calls are made."""
    costs = CostTracker(os.environ["DATABASE_URL"], **tracker)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    count, failures, numbers = Counter[str](), Counter[str](), iter(range(calls))

    async def one_after_another() -> None:
        for _ in numbers:
            try:
                await llm.complete(MESSAGES, max_tokens=MAX_TOKENS, user=user)
            except BudgetExceededError:
                count["refused"] += 1
                return
            except LLMCommonError as error:
                failures[type(error).__name__] += 1
                continue
            count["answered"] += 1

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    await costs.aclose()
    return {"answered": count["answered"], "refused": count["refused"], "failed": failures}


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(work(**json.loads(os.environ["WORKER"])))))
