"""Money under fire, at full size: `make fire`.

Eight processes, fifty calls in flight in each, one strict budget, a real Postgres and a server that
writes an invoice. Half of the processes are killed in mid-call, Postgres goes away for ten seconds,
streams are left half-way. Then the ledger is laid beside the invoice.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from llm_common import CostTracker, LLMClient
from llm_common.database import connect
from llm_common.database.migrations import up
from llm_common.testing import ProviderServer
from tests import children, servers
from tests.fire.load import MAX_TOKENS, MODEL, question
from tests.servers import Cluster
from tests.support import REPOSITORY, skip_or_fail

pytestmark = pytest.mark.fire

PROCESSES, AT_ONCE = 8, 50
OUTAGE_S = 10.0
LATENCY_S = 0.3
ESTIMATED = "estimated"


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    programs = servers.installed_programs(15)
    if programs is None:
        skip_or_fail("PostgreSQL 15 is not installed")
    with servers.cluster(programs) as running:
        yield running


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    async with ProviderServer(latency_s=LATENCY_S) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


class Fire:
    """The worker processes and the places they share."""

    def __init__(self, url: str, state: Path, burst_usd: Decimal) -> None:
        self.url = url
        self._state = state
        self._burst_usd = burst_usd

    async def start(self, name: str, seconds: float) -> Process:
        """Start a worker and wait until it is ready."""
        load = {
            "name": name,
            "at_once": AT_ONCE,
            "seconds": seconds,
            "daily_usd": "100",
            "burst_usd": str(self._burst_usd),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fire.load"),
            env={
                **os.environ,
                "LOAD": json.dumps(load),
                "DATABASE_URL": self.url,
                "LLM_COMMON_STATE_DIR": str(self._state),
            },
            cwd=REPOSITORY,
            stdin=PIPE,
            stdout=PIPE,
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        return process

    async def start_all(self, name: str, seconds: float) -> list[Process]:
        """Start every worker and let all of them go at once."""
        ready = await asyncio.gather(
            *(self.start(f"{name}{number}", seconds) for number in range(PROCESSES))
        )
        for process in ready:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        return ready

    async def ends(self, processes: list[Process]) -> Counter[str]:
        """Wait for workers and return what came of their calls."""
        total: Counter[str] = Counter()
        for process in processes:
            out, _ = await asyncio.wait_for(process.communicate(), 120)
            assert process.returncode == 0
            total.update(json.loads(out))
        return total

    async def ledger(self) -> dict[str, dict[str, Any]]:
        """Return the rows by step; every call has a step, and one attempt, of its own."""
        async with await psycopg.AsyncConnection.connect(self.url, row_factory=dict_row) as db:
            rows = await (await db.execute("SELECT * FROM cost_tracking")).fetchall()
        by_step: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_step.setdefault(str(row["step"]), []).append(row)
        return {step: _only(attempts) for step, attempts in by_step.items()}

    async def budgets(self) -> dict[str, dict[str, Any]]:
        """Return the counters by scope."""
        async with await psycopg.AsyncConnection.connect(self.url, row_factory=dict_row) as db:
            rows = await (await db.execute("SELECT * FROM llm_budget_counters")).fetchall()
        return {row["scope"]: row for row in rows}


def _only(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attempt that was sent; what was refused before the wire cost nothing."""
    sent = [row for row in attempts if row["cost_source"] != "unsent"]
    assert len(sent) <= 1, attempts
    return sent[0] if sent else attempts[0]


def invoiced(provider: ProviderServer) -> dict[str, Decimal]:
    """Return what the server charged, by step."""
    steps = {
        request.id: request.body["messages"][0]["content"].removeprefix("call ").strip()
        for request in provider.requests
    }
    return {
        steps[line.request_id]: line.amount
        for line in provider.invoice.lines
        if line.amount is not None
    }


def summary(title: str, **figures: object) -> None:
    print(f"\n{title}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))


async def test_money_under_fire(
    postgres: Cluster, provider: ProviderServer, tmp_path: Path
) -> None:
    url = postgres.create("fire")
    await up(url)
    costs = CostTracker(connect(url), project="fire")
    bound = LLMClient("openai", model=MODEL, cost_tracker=costs).estimate(
        question("a-1"), max_tokens=MAX_TOKENS
    )
    assert bound is not None
    calls = PROCESSES * AT_ONCE
    fire = Fire(url, tmp_path, bound * (calls // 10))

    await _burst(fire, provider, calls)
    await _storm(fire, postgres, provider)
    await _books(fire, provider, costs)
    await costs.aclose()


async def _burst(fire: Fire, provider: ProviderServer, calls: int) -> None:
    """400 calls at once against a budget for 40: none too many, none on the wire in vain."""
    ends = await fire.ends(await fire.start_all("a", 0))
    ledger, charged = await fire.ledger(), invoiced(provider)
    spent = sum(charged.values())
    limit = (await fire.budgets())["tag"]["limit_usd"]
    summary("burst", **ends, on_the_wire=len(provider.requests), spent=spent, limit=limit)
    assert set(ends) == {"ok", "BudgetExceededError"}
    assert ends.total() == calls
    assert calls // 10 <= ends["ok"] < calls
    assert len(provider.requests) == ends["ok"]
    assert spent <= limit
    sent = {s: row["cost_usd"] for s, row in ledger.items() if row["cost_source"] != "unsent"}
    assert sent == charged
    counter = (await fire.budgets())["tag"]
    assert (counter["spent_usd"], counter["held_nano"]) == (spent, 0)


async def _storm(fire: Fire, postgres: Cluster, provider: ProviderServer) -> None:
    """Kills, an outage and abandoned streams while calls go on."""
    quiet = len(provider.requests)
    workers = await fire.start_all("b", 35)
    await children.until(lambda: len(provider.requests) > quiet + PROCESSES * AT_ONCE)
    for process in workers[::2]:
        process.kill()
    await asyncio.sleep(2)
    before = len(provider.requests)
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(OUTAGE_S)
    meanwhile = len(provider.requests) - before
    await asyncio.to_thread(postgres.start)
    ends = await fire.ends(workers[1::2])
    for process in workers[::2]:
        await process.communicate()
    summary("storm", **ends, requests_during_the_outage=meanwhile)
    assert ends["ok"] > 0
    assert ends.keys() <= {"ok", "DatabaseUnavailableError"}


async def _books(fire: Fire, provider: ProviderServer, costs: CostTracker) -> None:
    """Whoever starts next brings what the dead left; then every cent is accounted for."""
    successor = await fire.start("c", 0)
    assert successor.stdin is not None
    successor.stdin.write(b"go\n")
    await fire.ends([successor])
    # Killed between its grant and its intent, a call was not sent; its hold runs out all the same.
    servers.execute(fire.url, "UPDATE llm_holds SET expires_at = now() WHERE state = 'held'")
    await costs.flush()
    ledger, charged = await fire.ledger(), invoiced(provider)
    estimated = {s: row for s, row in ledger.items() if row["cost_source"] == ESTIMATED}
    final = {s: r for s, r in ledger.items() if s not in estimated and r["cost_source"] != "unsent"}
    in_flight = {s for s, row in estimated.items() if row["status"] == ESTIMATED}
    summary(
        "books",
        invoice=sum(charged.values()),
        final=sum(row["cost_usd"] for row in final.values()),
        estimated=len(estimated),
        in_flight_at_a_kill=len(in_flight),
        invoiced_of_the_estimated=sum(charged.get(s, Decimal(0)) for s in estimated),
    )
    print("in flight at a kill, charged by their bounds:", *sorted(in_flight))
    assert charged.keys() <= ledger.keys(), "a paid call is missing from the ledger"
    assert {s: row["cost_usd"] for s, row in final.items()} == {
        s: amount for s, amount in charged.items() if s in final
    }
    assert all(row["cost_usd"] >= charged.get(s, 0) for s, row in estimated.items())
    # In flight at a kill: at most AT_ONCE in each of the killed processes.
    assert PROCESSES // 2 <= len(in_flight) <= PROCESSES // 2 * AT_ONCE
    assert {row["status"] for row in estimated.values()} == {ESTIMATED, "cancelled"}
    budgets = await fire.budgets()
    total = sum(row["cost_usd"] for row in ledger.values())
    assert budgets["project"]["spent_usd"] == total
    assert {budget["held_nano"] for budget in budgets.values()} == {0}
