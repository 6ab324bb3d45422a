"""Money under fire, small: a strict budget, two processes, one of them killed."""

from __future__ import annotations

import json
from asyncio.subprocess import Process
from decimal import Decimal

from llm_common import CostMetrics, CostTracker
from llm_common.testing import ProviderServer
from tests import children, servers
from tests.fire.books import check

# What takes longest is imported before anybody is ready.
WORKER = "import openai, runpy; runpy.run_module('tests.fire.worker', run_name='__main__')"
AT_ONCE = 24


async def ready(worker: Process) -> None:
    assert worker.stdout
    assert await worker.stdout.readline() == b"ready\n"


def go(worker: Process) -> None:
    assert worker.stdin
    worker.stdin.write(b"go\n")


def sent_by(key: str, fake: ProviderServer) -> int:
    return sum(request.headers["authorization"] == f"Bearer {key}" for request in fake.requests)


async def test_a_kill_in_mid_call_neither_loses_nor_overspends(
    fake: ProviderServer, costs: CostTracker, database_url: str
) -> None:
    # What is left admits some hundred calls, and leases of a few calls each.
    await costs.log_cost(CostMetrics(model="elsewhere", step="x", cost_usd=Decimal("0.94")))
    fake.latency_s = 0.4  # so slow that both have made calls before the money is spent
    job = {"at_once": AT_ONCE, "calls": 100_000, "user": None, "daily_budget_usd": 1}
    environment = {"DATABASE_URL": database_url, "WORKER": json.dumps(job)}
    survivor = await children.start(WORKER, **environment)
    async with children.killed(WORKER, **environment, OPENAI_API_KEY="victim") as victim:
        for worker in (survivor, victim):
            await ready(worker)
        go(survivor)
        go(victim)
        await children.until(lambda: len(fake.requests) > 150 and sent_by("victim", fake) > AT_ONCE)
    fake.latency_s = 0.03
    answered = json.loads(await children.output(survivor))
    assert answered["refused"] == AT_ONCE
    assert answered["failed"] == {}
    leased = servers.fetch(database_url, "SELECT count(*) FROM llm_leases WHERE granted_nano > 0")
    assert leased[0][0] >= 2, "no lease was in play"

    last = await children.start(WORKER, **environment)
    await ready(last)
    go(last)
    successor = json.loads(await children.output(last))
    assert successor["refused"] == AT_ONCE
    # Killed between its grant and its intent, a call was not sent; its hold runs out all the same.
    servers.execute(database_url, "UPDATE llm_holds SET expires_at = now() WHERE state = 'held'")
    await costs.flush()
    found = check(database_url, fake, Decimal(1))
    assert 1 <= found.estimated[1] <= AT_ONCE, "what was in flight is listed, and nothing else"
    rows = found.final[1] + found.estimated[1]
    assert len(fake.requests) <= rows, "a refused call was sent"
    # The budget is used up: what is left is less than one call may cost.
    assert found.external + found.final[0] + found.estimated[0] > Decimal("0.998")
