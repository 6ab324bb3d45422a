"""A cache in two layers, memory and Postgres, with one flight per key.

In a process, callers of one key wait for the first; across processes they wait for its lease row.
Only answers are kept: a failure is raised and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from .database import Database
from .errors import DatabaseError
from .telemetry import event

Layer = Literal["memory", "database", "none"]
Produce = Callable[[], Awaitable[list[Any]]]

MEMORY_ENTRIES = 10_000
EMPTY_TTL_S = 60.0
"""How long an empty answer is kept: what is not found today may be tomorrow."""
POLL_S = 0.05
LONGEST_POLL_S = 0.5
HITS_BATCH = 1_000
"""So many keys with hits in memory are counted in the database without being asked to."""

_memory_hits: defaultdict[str, Counter[str]] = defaultdict(Counter)
"""By database: the hits of this process that the database does not know of yet."""


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer and the layer that had it; `none` means it was produced. Not to be changed."""

    value: list[Any]
    layer: Layer


@dataclass(frozen=True, slots=True)
class Owner:
    """By what name this process holds leases, and whether another name is of a living one.

    Attributes:
        is_alive: None where that can't be seen, such as on another machine.
    """

    name: str
    is_alive: Callable[[str], bool | None]


def is_fresh(kept_at: float, ttl_s: float, now: float) -> bool:
    """Tell whether something kept at a moment is still to be used."""
    return now - kept_at < ttl_s


class LeaseCache:
    """The search cache of one client.

    Args:
        memory_ttl_s: seconds that this process keeps an answer.
        database_ttl_s: seconds that the database keeps it.
        lease_s: seconds after which a producer that can't be seen is given up; one that is seen
            to be dead is given up at once.
    """

    def __init__(
        self,
        db: Database,
        owner: Owner,
        *,
        memory_ttl_s: float,
        database_ttl_s: float,
        lease_s: float,
    ) -> None:
        self._db = db
        self._owner = owner
        self._memory_ttl_s = memory_ttl_s
        self._database_ttl_s = database_ttl_s
        self._lease_s = lease_s
        self._memory: OrderedDict[str, tuple[float, list[Any]]] = OrderedDict()
        self._flights: dict[tuple[int, str], asyncio.Future[Cached]] = {}

    async def get(self, key: str, about: Mapping[str, Any], produce: Produce) -> Cached:
        """Return what is kept under `key`, else produce it once and keep it.

        Args:
            about: project, query, engine and params, stored beside the answer.
            produce: called by at most one caller at a time, over all processes.

        Raises:
            Whatever `produce` raises, in every caller that waited for this flight.
        """
        kept = self._memory.get(key)
        if kept and is_fresh(kept[0], self._memory_ttl_s, time.monotonic()):
            self._count(key)
            return Cached(kept[1], "memory")
        flight_key = (id(asyncio.get_running_loop()), key)
        flight = self._flights.get(flight_key)
        if flight is None:
            flight = asyncio.ensure_future(self._from_database(key, about, produce))
            self._flights[flight_key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(flight_key, None))
            return await asyncio.shield(flight)
        cached = await asyncio.shield(flight)
        self._count(key)
        return Cached(cached.value, "memory")

    async def stats(self, project: str) -> dict[str, int]:
        """Tell the database what memory answered, and return its counts for a project."""
        hits = _memory_hits.pop(self._db.identity, Counter())
        question = {"project": project, "memory_hits": hits}
        try:
            return await self._db.call("llm_search_stats", question)
        except BaseException:
            _memory_hits[self._db.identity].update(hits)
            raise

    def _count(self, key: str) -> None:
        _memory_hits[self._db.identity][key] += 1

    async def _from_database(self, key: str, about: Mapping[str, Any], produce: Produce) -> Cached:
        if len(_memory_hits[self._db.identity]) >= HITS_BATCH:
            await self.stats(about["project"])
        lease = {"cache_key": key, "owner": f"{self._owner.name}/{uuid4()}"}
        answer = await self._claim({**about, **lease, "lease_s": self._lease_s})
        if answer["state"] == "hit":
            return self._keep(key, answer["results"], "database")
        try:
            value = await produce()
        except BaseException:
            await asyncio.shield(self._tell("llm_search_release", lease))
            raise
        ttl_s = self._database_ttl_s if value else min(EMPTY_TTL_S, self._database_ttl_s)
        await self._tell("llm_search_fill", {**lease, "results": value, "ttl_s": ttl_s})
        return self._keep(key, value, "none")

    async def _tell(self, function: str, payload: Mapping[str, Any]) -> None:
        """Tell the database how a flight ended; if it is away, the caller still gets his answer."""
        try:
            await self._db.call(function, payload)
        except DatabaseError as error:
            event("search.not_kept", level=logging.WARNING, error=type(error).__name__)

    async def _claim(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stored answer or the lease; wait while another that lives has it."""
        pause_s, dead = POLL_S, None
        while True:
            answer = await self._db.call("llm_search_claim", {**claim, "take_over": dead})
            if answer["state"] != "wait":
                return answer
            holder, _, _ = answer["lease_owner"].partition("/")
            dead = answer["lease_owner"] if self._owner.is_alive(holder) is False else None
            if dead is None:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LONGEST_POLL_S)

    def _keep(self, key: str, value: list[Any], layer: Layer) -> Cached:
        if value:
            self._memory[key] = (time.monotonic(), value)
            self._memory.move_to_end(key)
            if len(self._memory) > MEMORY_ENTRIES:
                self._memory.popitem(last=False)
        return Cached(value, layer)
