"""Workers that are killed time and again, a Postgres that crashes, a provider that fails.

Every three seconds for two minutes, and on a slow machine for longer, a worker is killed at random;
Postgres crashes twice; one answer in five is a fault. At the end every unit has a named outcome, no
step that was done was paid for again, and ledger and invoice agree.
"""

from __future__ import annotations

import asyncio
import random
import time
from asyncio.subprocess import Process
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker
from llm_common.database import connect, pool
from llm_common.database.migrations import up
from llm_common.errors import DatabaseError
from llm_common.runs import NewJob, NewUnit, Outcome, find_jobs, progress
from llm_common.runs.workers import submit
from llm_common.testing import Fault, ProviderServer
from tests import servers
from tests.scale import processes
from tests.scale.paid import PROJECT, STEPS
from tests.servers import Cluster, fetch
from tests.support import REPOSITORY, skip_or_fail

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

SEED = 20261121
WORKERS, SLOTS, UNITS = 3, 10, 250
SECONDS, KILL_EVERY_S, CRASHES_AT_S, DOWN_S = 120.0, 3.0, (40.0, 80.0), 2.0
LEAST_KILLS = 20
LATENCY_S = 0.4
FAULTS = (
    Fault.status(500),
    Fault.status(503),
    Fault.rate_limit(0.2),
    Fault.empty(),
    Fault.malformed_json(),
    Fault.disconnect(),
    Fault.html(),
)


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    programs = servers.installed_programs(15)
    if programs is None:
        skip_or_fail("PostgreSQL 15 is not installed")
    with servers.cluster(programs) as running:
        yield running


class Provider:
    """What the server was asked, when, and which answers were faults."""

    def __init__(self) -> None:
        self._chance = random.Random(SEED)
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.purposes: dict[str, str] = {}

    def respond(self, request: Any) -> Fault | None:
        purpose = request.body["messages"][0]["content"].removeprefix("call ").strip()
        self.asked[purpose].append(time.time())
        self.purposes[request.id] = purpose
        return self._chance.choice(FAULTS) if self._chance.random() < 0.2 else None


@pytest.fixture
def asked() -> Provider:
    return Provider()


@pytest.fixture
async def provider(
    asked: Provider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ProviderServer]:
    async with ProviderServer(respond=asked.respond, latency_s=LATENCY_S) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


class Chaos:
    """The workers of one run of it, and those who disturb them."""

    def __init__(self, url: str, postgres: Cluster, log: Path) -> None:
        self._url = url
        self._postgres = postgres
        self._log = log
        self._chance = random.Random(SEED)
        self.workers: list[Process] = []
        self.kills = 0
        self.jobs = 0

    async def start(self) -> Process:
        return await processes.start(
            "tests.scale.paid:made", self._url, PROJECT, SLOTS, REPOSITORY, self._log
        )

    async def kill(self) -> None:
        """Kill a worker at random and start another one."""
        place = self._chance.randrange(WORKERS)
        if self.workers[place].returncode is None:
            self.workers[place].kill()
            self.kills += 1
        await self.workers[place].wait()
        self.workers[place] = await self.start()

    async def crash(self) -> None:
        # One that finds no database when it starts ends, and this is about those that work.
        for worker in self.workers:
            await processes.is_up(worker, self._log)
        await asyncio.to_thread(self._postgres.stop)
        await asyncio.sleep(DOWN_S)
        await asyncio.to_thread(self._postgres.start)

    async def submit_while_there_is_little(self) -> None:
        db = connect(self._url)
        with suppress(DatabaseError):
            running = await find_jobs(db, PROJECT, status="running")
            left = 0
            for job in running:
                far = await progress(db, PROJECT, job.job_id)
                left += far.total - far.done
            if left < UNITS:
                self.jobs += 1
                units = [NewUnit(f"{self.jobs}-{n}", {}) for n in range(UNITS)]
                job_id = f"job {self.jobs}"
                await submit(self._url, PROJECT, NewJob("paid", job_id=job_id), units)

    async def storm(self) -> None:
        self.workers = [await self.start() for _ in range(WORKERS)]
        began, crashes = time.monotonic(), list(CRASHES_AT_S)
        while (elapsed := time.monotonic() - began) < SECONDS or self.kills < LEAST_KILLS:
            await self.submit_while_there_is_little()
            if crashes and elapsed > crashes[0]:
                crashes.pop(0)
                await self.crash()
            await self.kill()
            await asyncio.sleep(KILL_EVERY_S)

    async def calm(self) -> None:
        """Wait until all that was begun is over, then let the workers go."""
        db = connect(self._url)
        async with asyncio.timeout(400):
            while await find_jobs(db, PROJECT, status="running", limit=1):
                await asyncio.sleep(1)
        for worker in self.workers:
            await processes.stop(worker, self._log)


async def test_chaos(
    postgres: Cluster, provider: ProviderServer, asked: Provider, tmp_path: Path
) -> None:
    url = postgres.create("chaos")
    await up(url)
    chaos = Chaos(url, postgres, tmp_path / "log")
    try:
        await chaos.storm()
        await chaos.calm()
    finally:
        for worker in chaos.workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    costs = CostTracker(connect(url), project=PROJECT)
    # Killed between its grant and its intent, a call was not sent; its hold runs out all the same.
    servers.execute(url, "UPDATE llm_holds SET expires_at = now() WHERE state = 'held'")
    await costs.flush()
    outcomes = _outcomes(url)
    print(f"\nkills {chaos.kills}, jobs {chaos.jobs}, {dict(outcomes)}, {_repeats(url)} repeats")
    assert chaos.kills >= LEAST_KILLS
    assert outcomes.total() == chaos.jobs * UNITS
    assert set(outcomes) <= {one.value for one in Outcome}
    assert outcomes["done"] > 0.9 * outcomes.total()
    assert "prompt" not in (log := (tmp_path / "log").read_text())
    assert "fake-key" not in log
    assert _repeats(url) <= chaos.kills * SLOTS
    _nothing_finished_was_asked_again(url, asked)
    _books(url, provider, asked)
    await costs.aclose()
    await pool.close()


def _outcomes(url: str) -> Counter[str]:
    return Counter(dict(fetch(url, "SELECT outcome, count(*) FROM pipeline_runs GROUP BY 1")))


def _repeats(url: str) -> int:
    ((count,),) = fetch(url, "SELECT sum(repeats)::int FROM pipeline_steps")
    return count


def _nothing_finished_was_asked_again(url: str, asked: Provider) -> None:
    done = fetch(
        url,
        "SELECT r.unit_key || '/' || s.step, extract(epoch FROM s.finished_at)::float8"
        " FROM pipeline_steps s JOIN pipeline_runs r ON r.id = s.run_id WHERE s.state = 'done'",
    )
    assert len(done) > UNITS * len(STEPS)
    late = [purpose for purpose, at in done if max(asked.asked[purpose]) > at]
    assert late == []


def _books(url: str, provider: ProviderServer, asked: Provider) -> None:
    """Lay the ledger beside the invoice, step by step of each unit."""
    charged: dict[str, list[Decimal]] = defaultdict(list)
    for line in provider.invoice.lines:
        assert line.amount is not None
        charged[asked.purposes[line.request_id]].append(line.amount)
    final: dict[str, list[Decimal]] = defaultdict(list)
    bounds: dict[str, list[Decimal]] = defaultdict(list)
    rows = fetch(
        url,
        "SELECT r.unit_key || '/' || c.step, c.cost_usd, c.cost_source = 'estimated', c.job_id"
        " FROM cost_tracking c LEFT JOIN pipeline_runs r ON r.id = c.run_id"
        " WHERE c.cost_source <> 'unsent'",
    )
    for purpose, cost, is_estimate, job_id in rows:
        assert purpose is not None, "a row of the ledger without its unit"
        assert job_id is not None
        (bounds if is_estimate else final)[purpose].append(cost)
    assert charged.keys() <= final.keys() | bounds.keys(), "a paid call is missing"
    for purpose, amounts in charged.items():
        (price,) = set(amounts)
        known = [cost for cost in final[purpose] if cost]
        assert set(known) <= {price}
        # What was charged and is not known was on the wire when its process died.
        unknown = len(amounts) - len(known)
        assert 0 <= unknown <= len(bounds[purpose]), purpose
        assert all(bound >= price for bound in bounds[purpose])
    total = sum((sum(each, Decimal(0)) for each in final.values()), Decimal(0))
    print(
        f"invoice {provider.invoice.total_usd}, ledger {total} and "
        f"{sum(map(len, bounds.values()))} calls at their bound"
    )
