"""What a rollout costs a request: choosing an arm, beside OpenFeature's own in-memory provider.

    python scripts/rollout_bench.py

No database is asked for a unit, so none is started here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from llm_common import Rollout
from llm_common.rollout.environment import PERCENTAGE
from llm_common.rollout.guardrails import ArmTally, Guardrails, Tally, findings

UNITS = 10_000
ROUNDS = 15
GOAL = 0.5
"""Of the peer's time per unit."""


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the quickest of some rounds."""
    seconds: list[float] = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def ours() -> Callable[[], object]:
    """Choose an arm for each unit; the state that a database would hold is the environment's."""
    os.environ[PERCENTAGE] = "50"
    rollout = Rollout("f", project="p")
    units = [f"unit-{i}" for i in range(UNITS)]

    def work() -> None:
        for unit in units:
            rollout.arm(unit)

    return work


def peers() -> Callable[[], object]:
    """Ask the SDK's client for a boolean of its in-memory provider, which hashes nothing."""
    flag = InMemoryFlag("new", {"new": True, "old": False})
    api.set_provider_and_wait(InMemoryProvider({"f": flag}))
    client = api.get_client()
    contexts = [EvaluationContext(f"unit-{i}") for i in range(UNITS)]

    def work() -> None:
        for context in contexts:
            client.get_boolean_value("f", False, context)

    return work


def look() -> Callable[[], object]:
    """Judge an epoch of a thousand outcomes in each arm."""
    costs = [Decimal(i % 7 + 1) / 100 for i in range(1_000)]
    arm = ArmTally({5000: 900}, finished=1_000, errors=30, slow=20, due=900, costs=costs)
    tally = Tally(arm, arm, failures_in_a_row=0, has_control=True, seconds=60)
    return lambda: findings(tally, Guardrails())


def main() -> int:
    """Print the figures; 1 where the goal is missed."""
    mine, theirs = best(ours()) / UNITS, best(peers()) / UNITS
    ratio = mine / theirs
    sys.stdout.write(f"an arm, in memory           {mine * 1e6:7.1f} µs\n")
    sys.stdout.write(f"OpenFeature, in memory      {theirs * 1e6:7.1f} µs\n")
    sys.stdout.write(f"ratio                       {ratio:7.2f}    goal at most {GOAL}\n")
    sys.stdout.write(f"a look at 2,000 outcomes    {best(look()) * 1e3:7.1f} ms\n")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
