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
POLL_S = 0.05
LONGEST_POLL_S = 0.5
HITS_BATCH = 1_000
"""So many keys with hits in memory are counted in the database without being asked to."""

_memory_hits: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
"""By database and cache: the hits of this process that the database does not know of yet."""


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


@dataclass(frozen=True, slots=True)
class Terms:
    """For how long answers are kept and leases hold, in seconds.

    Attributes:
        memory_s: how long this process keeps an answer; 0 leaves it to the database.
        database_s: says of an answer how long the database keeps it; 0 means not at all.
        lease_s: when a producer that can't be seen is given up; one that is seen to be dead is
            given up at once.
    """

    memory_s: float
    database_s: Callable[[list[Any]], float]
    lease_s: float


class LeaseCache:
    """The cache of one client: of searches (`llm_search`) or of models' answers (`llm_response`).

    Args:
        functions: how the names of its SQL functions begin.
    """

    def __init__(self, db: Database, owner: Owner, functions: str) -> None:
        self._db = db
        self._owner = owner
        self._functions = functions
        self._hits_of = (db.identity, functions)
        self._memory: OrderedDict[str, tuple[float, list[Any]]] = OrderedDict()
        self._flights: dict[tuple[int, str], asyncio.Future[Cached]] = {}

    async def get(
        self, key: str, about: Mapping[str, Any], produce: Produce, terms: Terms
    ) -> Cached:
        """Return what is kept under `key`, else produce it once and keep it.

        Args:
            about: the project and what else is stored beside the answer.
            produce: called by at most one caller at a time, over all processes.

        Raises:
            Whatever `produce` raises, in every caller that waited for this flight.
        """
        kept = self._memory.get(key)
        if kept and is_fresh(kept[0], terms.memory_s, time.monotonic()):
            self._count(key)
            return Cached(kept[1], "memory")
        flight_key = (id(asyncio.get_running_loop()), key)
        flight = self._flights.get(flight_key)
        if flight is None:
            flight = asyncio.ensure_future(self._from_database(key, about, produce, terms))
            self._flights[flight_key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(flight_key, None))
            return await asyncio.shield(flight)
        cached = await asyncio.shield(flight)
        self._count(key)
        return Cached(cached.value, "memory")

    async def stats(self, project: str) -> dict[str, int]:
        """Tell the database what memory answered, and return its counts for a project."""
        hits = _memory_hits.pop(self._hits_of, Counter())
        question = {"project": project, "memory_hits": hits}
        try:
            return await self._db.call(f"{self._functions}_stats", question)
        except BaseException:
            _memory_hits[self._hits_of].update(hits)
            raise

    def _count(self, key: str) -> None:
        _memory_hits[self._hits_of][key] += 1

    async def _from_database(
        self, key: str, about: Mapping[str, Any], produce: Produce, terms: Terms
    ) -> Cached:
        if len(_memory_hits[self._hits_of]) >= HITS_BATCH:
            await self.stats(about["project"])
        lease = {"cache_key": key, "owner": f"{self._owner.name}/{uuid4()}"}
        answer = await self._claim({**about, **lease, "lease_s": terms.lease_s})
        if answer["state"] == "hit":
            return self._keep(key, answer["results"], "database", terms)
        try:
            value = await produce()
        except BaseException:
            await asyncio.shield(self._tell("release", lease))
            raise
        ttl_s = terms.database_s(value)
        if ttl_s > 0:
            await self._tell("fill", {**lease, "results": value, "ttl_s": ttl_s})
        else:
            await self._tell("release", lease)
        return self._keep(key, value, "none", terms)

    async def _tell(self, end: str, payload: Mapping[str, Any]) -> None:
        """Tell the database how a flight ended; if it is away, the caller still gets his answer."""
        try:
            await self._db.call(f"{self._functions}_{end}", payload)
        except DatabaseError as error:
            event("cache.not_kept", level=logging.WARNING, error=type(error).__name__)

    async def _claim(self, claim: Mapping[str, Any]) -> dict[str, Any]:
        """Return a stored answer or the lease; wait while another that lives has it."""
        pause_s, dead = POLL_S, None
        while True:
            answer = await self._db.call(f"{self._functions}_claim", {**claim, "take_over": dead})
            if answer["state"] != "wait":
                return answer
            holder, _, _ = answer["lease_owner"].partition("/")
            dead = answer["lease_owner"] if self._owner.is_alive(holder) is False else None
            if dead is None:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LONGEST_POLL_S)

    def _keep(self, key: str, value: list[Any], layer: Layer, terms: Terms) -> Cached:
        if value and terms.memory_s > 0:
            self._memory[key] = (time.monotonic(), value)
            self._memory.move_to_end(key)
            if len(self._memory) > MEMORY_ENTRIES:
                self._memory.popitem(last=False)
        return Cached(value, layer)
