"""Whatever happens to calls and to the processes that make them, the numbers add up.

Hypothesis draws calls, results, flushes whose answers are lost, recalls, expiry, crashes and
replays, over the arithmetic of `Leases` and the SQL functions of a real Postgres. After every step
each counter is what the ledger, the holds and the leases come to.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from llm_common.cost_tracker import Limit, from_nano, to_nano
from llm_common.cost_tracker.grants import _granted, _unseen
from llm_common.cost_tracker.leases import EVERYTHING, Lease, Leases
from tests.servers import Server

DAY = 86_400.0
LIMIT = Decimal(1)
BOUND = 1_000_000
"""A tenth of a cent, in nano-dollars: ten of them are one per cent of the limit."""

PARTS = st.none() | st.sampled_from([0.1, 0.3, 1.0, 1.3, 1 / 3])
"""What a call costs, as a part of its bound."""

COUNTERS = """
    SELECT c.scope, c.scope_id, c.window_kind, c.limit_usd, c.spent_usd, c.held_nano,
           llm_ledger_sum(c.project, c.scope, c.scope_id, c.window_kind, c.window_start),
           (SELECT coalesce(sum(h.bound_nano), 0) FROM llm_holds h
            WHERE h.project = c.project AND h.state = 'held'
              AND h.limits @> jsonb_build_array(jsonb_build_object(
                  'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind)))
         + (SELECT coalesce(sum(l.left_nano), 0) FROM llm_leases l
            WHERE l.project = c.project AND l.state = 'open'
              AND l.limits @> jsonb_build_array(jsonb_build_object(
                  'scope', c.scope, 'scope_id', c.scope_id, 'window', c.window_kind)))
    FROM llm_budget_counters c WHERE c.project = %s
"""
LOSSES = """
    SELECT l.left_nano / 1e9::numeric, c.cost_usd, c.cost_source
    FROM llm_leases l JOIN cost_tracking c ON c.operation_id = l.lease_id
    WHERE l.project = %s AND l.state = 'lost'
"""


@dataclass(eq=False)
class Worker:
    """A process: its leases, its calls in flight and what it has not told the database."""

    name: str = field(default_factory=lambda: str(uuid4()))
    leases: Leases = field(default_factory=Leases)
    flying: list[dict[str, Any]] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)


class Money(RuleBasedStateMachine):
    """See the module."""

    connection: psycopg.Connection[Any]

    def __init__(self) -> None:
        super().__init__()
        self.project = f"p{uuid4()}"
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []
        self.now = 0.0
        self.bounds: dict[str, int] = {}
        self.finals: dict[str, Decimal] = {}
        self.sent: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []

    def call(self, function: str, **payload: Any) -> Any:
        query = SQL("SELECT {}(%s)").format(Identifier(function))
        return self.connection.execute(query, [Jsonb(payload)]).fetchone()[0]

    def limits(self, which: int) -> tuple[Limit, ...]:
        project = Limit("project", self.project, "day", LIMIT)
        month = Limit("project", self.project, "month", LIMIT * Decimal("1.01"))
        tag = Limit("tag", "t", "total", LIMIT * Decimal("0.99"))
        user = Limit("user", "u", "day", LIMIT / 100)
        return [(project,), (project, month, tag), (project, project, user)][which]

    @initialize(workers=st.integers(1, 3), spent=st.sampled_from(["0", "0.93", "0.96", "0.98"]))
    def start(self, workers: int, spent: str) -> None:
        self.workers = [Worker() for _ in range(workers)]
        final = {"cost_usd": spent, "cost_source": "external"}
        self.call("llm_settle", rows=[self.row(self.limits(1)) | final])

    def worker(self, number: int) -> Worker:
        return self.workers[number % len(self.workers)]

    @rule(
        number=st.integers(0, 2),
        which=st.sampled_from([0, 1, 1, 2]),
        bounds=st.lists(st.integers(BOUND // 2, 3 * BOUND), min_size=1, max_size=4),
        spend=st.integers(2, 20).map(lambda calls: calls * BOUND),
        fate=st.sampled_from(["answered"] * 4 + ["lost", "never arrived"]),
    )
    def reserve(self, number: int, which: int, bounds: list[int], spend: int, fate: str) -> None:
        """Serve calls from a lease, or ask for one and for holds."""
        worker, limits = self.worker(number), self.limits(which)
        key = (self.project, limits)
        rows = [self.row(limits) for _ in bounds]
        waiting = []
        for row, bound in zip(rows, bounds, strict=True):
            self.bounds[row["operation_id"]] = bound
            attempt = (row["operation_id"], 1)
            lease = worker.leases.serve(key, attempt, bound, 100.0, self.now)
            if lease is None:
                waiting.append((row, bound))
            else:
                self.begin(worker, row, bound, lease.id, lease.day)
        if waiting:
            self.ask(worker, key, waiting, spend, fate)

    def ask(self, worker: Worker, key: Any, waiting: list[Any], spend: int, fate: str) -> None:
        said = worker.leases.statements(worker.name, self.project)
        lease_id = str(uuid4())
        payload: dict[str, Any] = {
            "requests": [
                {
                    "hold_id": str(uuid4()),
                    "project": self.project,
                    "bound_nano": bound,
                    "ttl_s": DAY,
                    "limits": [limit.payload() for limit in key[1]],
                    "row": row,
                }
                for row, bound in waiting
            ],
            "leases": said,
        }
        if all(limit.scope != "user" for limit in key[1]):
            worker.asked.append((lease_id, self.project))
            payload["lease"] = {
                "lease_id": lease_id,
                "owner": worker.name,
                "wish_nano": sum(bound for _, bound in waiting) + spend,
                "floor_nano": 2 * max(bound for _, bound in waiting),
                "use_s": DAY,
                "ttl_s": DAY,
            }
        answer = self.call("llm_reserve", **payload) if fate != "never arrived" else None
        if fate != "answered":
            worker.leases.add(_unseen(lease_id, key))
            for row, _ in waiting:
                unsent = {"status": "error", "cost_usd": "0", "cost_source": "unsent"}
                worker.pending.append(row | unsent)
            if answer is None:
                self.late.append(payload)
            return
        if granted := answer["lease"]:
            worker.leases.add(_granted(granted, key, self.now, 100.0))
        worker.leases.heard(said, answer["leases"])
        for (row, bound), result in zip(waiting, answer["results"], strict=True):
            if result["granted"]:
                lease = result.get("lease_id")
                attempt = (row["operation_id"], 1)
                worker.leases.begin(key, attempt, bound, lease, self.now)
                self.begin(worker, row, bound, lease, result["accounted_on"])

    def row(self, limits: tuple[Limit, ...]) -> dict[str, Any]:
        scopes = {limit.scope for limit in limits}
        return {
            "operation_id": str(uuid4()),
            "attempt_no": 1,
            "kind": "first",
            "status": "estimated",
            "cost_source": "estimated",
            "model": "m",
            "requested_model": "m",
            "project": self.project,
            "user_id": "u" if "user" in scopes else None,
            "tags": ["t"] if "tag" in scopes else [],
        }

    def begin(
        self, worker: Worker, row: dict[str, Any], bound: int, lease: str | None, day: str
    ) -> None:
        row |= {"cost_usd": str(from_nano(bound)), "accounted_on": day}
        if lease:
            row |= {"lease_id": lease, "bound_nano": bound}
        worker.flying.append(row)

    @precondition(lambda self: any(worker.flying for worker in self.workers))
    @rule(ends=st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=4))
    def settle(self, ends: list[list[float | None]]) -> None:
        """End calls: within the bound or beyond, as estimated (None), some of them twice."""
        for parts in ends:
            for worker in self.workers:
                if worker.flying:
                    self.end(worker, parts)

    def end(self, worker: Worker, parts: list[float | None]) -> None:
        intent = worker.flying.pop(0)
        operation = intent["operation_id"]
        for part in parts:
            row = dict(intent)
            if part is not None:
                cost = round(Decimal(str(part)) * from_nano(self.bounds[operation]), 12)
                row |= {"status": "ok", "cost_source": "prices", "cost_usd": str(cost)}
                self.finals.setdefault(operation, cost)
            worker.leases.settle((operation, 1), to_nano(Decimal(row["cost_usd"])), self.now)
            worker.pending.append(row)

    @rule(is_lost=st.booleans(), count=st.integers(0, 8))
    def flush(self, is_lost: bool, count: int) -> None:
        """Tell the database; when its answer is lost, all of it is told again."""
        for worker in self.workers:
            self.tell(worker, count, is_lost=is_lost)

    def tell(self, worker: Worker, count: int, *, is_lost: bool = False) -> None:
        said = worker.leases.statements(worker.name)
        payload = {"rows": worker.pending[:count], "leases": said}
        answer = self.call("llm_settle", **payload)
        self.sent.append(payload)
        if not is_lost:
            del worker.pending[:count]
            worker.leases.heard(said, answer["leases"])
            worker.leases.over()

    @rule(number=st.integers(0, 2), seconds=st.floats(0, 3))
    def close(self, number: int, seconds: float) -> None:
        """Let leases lie idle until they are given back."""
        self.now += seconds
        self.worker(number).leases.close(self.now, idle_only=True)

    @precondition(lambda self: any(worker.flying for worker in self.workers))
    @rule()
    def cancel(self) -> None:
        """Take a call back before it is sent."""
        worker = next(worker for worker in self.workers if worker.flying)
        row = worker.flying.pop()
        worker.leases.settle((row["operation_id"], 1), 0, self.now)
        worker.pending.append(row | {"cost_usd": "0", "cost_source": "unsent"})

    @precondition(lambda self: any(worker.asked for worker in self.workers))
    @rule(number=st.integers(0, 2), is_seen=st.booleans())
    def crash(self, number: int, is_seen: bool) -> None:
        """End a process; one on this machine is replayed, of another nothing is heard."""
        worker = self.worker(number)
        self.workers[self.workers.index(worker)] = Worker()
        if not is_seen:
            self.gone.append(worker)
            return
        self.call("llm_settle", rows=worker.pending + worker.flying)
        for lease, project in worker.asked:
            everything = {"returned_nano": EVERYTHING, "is_closed": True}
            named = {"lease_id": lease, "project": project, "owner": worker.name}
            self.call("llm_settle", rows=[], leases=[named | everything])

    @precondition(lambda self: self.gone)
    @rule()
    def come_back(self) -> None:
        """A process of which nothing was heard is there again."""
        self.workers.append(self.gone.pop())

    @rule(holds=st.booleans(), leases=st.booleans())
    def expire(self, holds: bool, leases: bool) -> None:
        """Let time run out for what is held."""
        past = "expires_at = clock_timestamp() - interval '1 second' WHERE project = %s"
        if holds:
            self.connection.execute(f"UPDATE llm_holds SET {past}", [self.project])
        if leases:
            self.connection.execute(f"UPDATE llm_leases SET {past}", [self.project])
        self.call("llm_expire_holds", project=self.project)

    @rule()
    def recall(self) -> None:
        """Refuse a call that is too large for anybody: leases are called back."""
        limits = self.limits(1)
        row = self.row(limits)
        request = {"hold_id": str(uuid4()), "project": self.project, "bound_nano": 10**12}
        limited = {"limits": [limit.payload() for limit in limits], "row": row, "ttl_s": 60}
        answer = self.call("llm_reserve", requests=[request | limited])
        assert not answer["results"][0]["granted"]

    @precondition(lambda self: self.late)
    @rule()
    def arrive(self) -> None:
        """A question that its asker has given up reaches the database after all."""
        self.call("llm_reserve", **self.late[0])
        self.sent.append(self.late.pop(0))

    @precondition(lambda self: self.sent)
    @rule(choice=st.randoms(use_true_random=False))
    def arrive_again(self, choice: random.Random) -> None:
        """Repeat what was said before, as a network does."""
        payload = choice.choice(self.sent)
        self.call("llm_reserve" if "requests" in payload else "llm_settle", **payload)

    @invariant()
    def the_numbers_add_up(self) -> None:
        over = sum((self.excess(op, bound) for op, bound in self.bounds.items()), Decimal(0))
        for *name, limit, spent, held, ledger, outstanding in self.connection.execute(
            COUNTERS, [self.project]
        ):
            assert spent == ledger, f"{name}: spent {spent}, the ledger says {ledger}"
            assert held == outstanding, f"{name}: held {held}, outstanding {outstanding}"
            assert spent + from_nano(held) <= limit + over, f"{name} is overspent"
        for worker in [*self.workers, *self.gone]:
            for lease in worker.leases._leases.values():
                self.nobody_took_from(lease)
        for left, cost, source in self.connection.execute(LOSSES, [self.project]):
            assert left == cost
            assert source == ("estimated" if left else "unsent")

    def nobody_took_from(self, lease: Lease) -> None:
        """What a living process takes its lease to be worth, the database has in it."""
        worth = lease.granted - lease.used - lease.returned()
        assert lease.used + lease.reserved <= lease.granted
        query = "SELECT left_nano FROM llm_leases WHERE lease_id = %s"
        row = self.connection.execute(query, [lease.id]).fetchone()
        assert lease.granted == EVERYTHING or row[0] >= worth

    def excess(self, operation: str, bound: int) -> Decimal:
        query = "SELECT cost_usd FROM cost_tracking WHERE operation_id = %s AND attempt_no = 1"
        row = self.connection.execute(query, [operation]).fetchone()
        return max(Decimal(0), row[0] - from_nano(bound)) if row else Decimal(0)

    def teardown(self) -> None:
        """When all is told and given back, nothing is held."""
        for worker in [*self.workers, *self.gone]:
            while worker.flying:
                row = worker.flying.pop()
                worker.leases.settle((row["operation_id"], 1), 0, self.now)
                worker.pending.append(row | {"cost_usd": "0", "cost_source": "unsent"})
            worker.leases.close(self.now)
            self.tell(worker, len(worker.pending))
            self.tell(worker, 0)
            assert worker.leases.over() == []
            assert not worker.leases.have_news
        holds = {r["hold_id"] for sent in self.sent for r in sent.get("requests", ())}
        self.the_numbers_add_up()
        for *name, held in self.connection.execute(
            "SELECT scope, window_kind, held_nano FROM llm_budget_counters WHERE project = %s",
            [self.project],
        ):
            zombie = self.connection.execute(
                "SELECT coalesce(sum(bound_nano), 0) FROM llm_holds WHERE project = %s"
                " AND state = 'held' AND hold_id = ANY(%s)",
                [self.project, list(holds)],
            ).fetchone()[0]
            assert held <= zombie, f"{name} still hold {held}"
        for operation, cost in self.finals.items():
            query = "SELECT cost_usd FROM cost_tracking WHERE operation_id = %s"
            assert self.connection.execute(query, [operation]).fetchone() == (cost,)


@pytest.mark.timeout(300)
def test_the_numbers_add_up_whatever_happens(server: Server, template: str) -> None:
    with server.database(template) as url, psycopg.connect(url, autocommit=True) as connection:
        Money.connection = connection
        run_state_machine_as_test(
            Money,
            settings=settings(
                max_examples=120,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
