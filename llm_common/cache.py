"""A cache in two layers, memory and Postgres, with one flight per key.

In a process, callers of one key wait for the first; across processes they wait for its lease row.
Only answers are kept: a failure is raised and forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from .database import Database

Layer = Literal["memory", "database", "none"]
Produce = Callable[[], Awaitable[list[Any]]]

MEMORY_ENTRIES = 10_000
EMPTY_TTL_S = 60.0
"""How long an empty answer is kept: what is not found today may be tomorrow."""
POLL_S = 0.05
LONGEST_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer and the layer that had it; `none` means it was produced."""

    value: list[Any]
    layer: Layer


def is_fresh(kept_at: float, ttl_s: float, now: float) -> bool:
    """Tell whether something kept at a moment is still to be used."""
    return now - kept_at < ttl_s


class LeaseCache:
    """The search cache of one client.

    Args:
        memory_ttl_s: seconds that this process keeps an answer.
        database_ttl_s: seconds that the database keeps it.
        lease_s: seconds after which a producer that was not heard of is given up.
    """

    def __init__(
        self, db: Database, *, memory_ttl_s: float, database_ttl_s: float, lease_s: float
    ) -> None:
        self._db = db
        self._memory_ttl_s = memory_ttl_s
        self._database_ttl_s = database_ttl_s
        self._lease_s = lease_s
        self._memory: OrderedDict[str, tuple[float, list[Any]]] = OrderedDict()
        self._flights: dict[tuple[int, str], asyncio.Future[Cached]] = {}
        self._memory_hits: dict[str, int] = {}

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

    def take_memory_hits(self) -> dict[str, int]:
        """Return, and forget, how often memory answered each key."""
        hits, self._memory_hits = self._memory_hits, {}
        return hits

    def _count(self, key: str) -> None:
        self._memory_hits[key] = self._memory_hits.get(key, 0) + 1

    async def _from_database(self, key: str, about: Mapping[str, Any], produce: Produce) -> Cached:
        owner, pause_s = str(uuid4()), POLL_S
        claim = {**about, "cache_key": key, "owner": owner, "lease_s": self._lease_s}
        while (answer := await self._db.call("llm_search_claim", claim))["state"] == "wait":
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_POLL_S)
        if answer["state"] == "hit":
            return self._keep(key, answer["results"], "database")
        try:
            value = await produce()
        except BaseException:
            await asyncio.shield(
                self._db.call("llm_search_release", {"cache_key": key, "owner": owner})
            )
            raise
        ttl_s = self._database_ttl_s if value else min(EMPTY_TTL_S, self._database_ttl_s)
        await self._db.call(
            "llm_search_fill", {"cache_key": key, "owner": owner, "results": value, "ttl_s": ttl_s}
        )
        return self._keep(key, value, "none")

    def _keep(self, key: str, value: list[Any], layer: Layer) -> Cached:
        if value:
            self._memory[key] = (time.monotonic(), value)
            self._memory.move_to_end(key)
            if len(self._memory) > MEMORY_ENTRIES:
                self._memory.popitem(last=False)
        return Cached(value, layer)
