"""The cache of models' answers: kept for a time, then asked for again."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..database import Database
from .leases import Flights, Leases, Owner

Produce = Callable[[], Awaitable[list[Any]]]

HITS_BATCH = 1_000
"""So many keys with hits in memory are counted in the database without being asked to."""

_shared_hits: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
"""By database and cache: the hits of this process that the database does not know of yet."""


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer and the layer that had it; `none` means it was produced. Not to be changed."""

    value: list[Any]
    layer: Literal["memory", "database", "none"]


@dataclass(frozen=True, slots=True)
class Terms:
    """For how long answers are kept and leases hold, in seconds.

    Attributes:
        database_s: says of an answer how long the database keeps it; 0 means not at all.
        lease_s: when a producer that can't be seen is given up; one that is seen to be dead is
            given up at once.
    """

    database_s: Callable[[list[Any]], float]
    lease_s: float


class LeaseCache:
    """The cache of one client.

    Args:
        functions: how the names of its SQL functions begin, such as `llm_response`.
    """

    def __init__(self, db: Database, owner: Owner, functions: str) -> None:
        self._leases = Leases(db, owner, functions)
        self._hits_of = (db.identity, functions)
        self._flights: Flights[Cached] = Flights()

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
        cached, joined = await self._flights.join(
            key, lambda: self._from_database(key, about, produce, terms)
        )
        if not joined:
            return cached
        _shared_hits[self._hits_of][key] += 1
        return Cached(cached.value, "memory")

    async def stats(self, project: str) -> dict[str, int]:
        """Tell the database what flights were shared, and return its counts for a project."""
        hits = _shared_hits.pop(self._hits_of, Counter())
        try:
            return await self._leases.call("stats", {"project": project, "memory_hits": hits})
        except BaseException:
            _shared_hits[self._hits_of].update(hits)
            raise

    async def _from_database(
        self, key: str, about: Mapping[str, Any], produce: Produce, terms: Terms
    ) -> Cached:
        if len(_shared_hits[self._hits_of]) >= HITS_BATCH:
            await self.stats(about["project"])
        lease = self._leases.new(key)
        answer, _ = await self._leases.claim({**about, **lease, "lease_s": terms.lease_s})
        if answer["state"] == "hit":
            return Cached(answer["results"], "database")
        try:
            value = await produce()
        except BaseException:
            await asyncio.shield(self._leases.tell("release", lease))
            raise
        ttl_s = terms.database_s(value)
        if ttl_s > 0:
            await self._leases.tell("fill", {**lease, "results": value, "ttl_s": ttl_s})
        else:
            await self._leases.tell("release", lease)
        return Cached(value, "none")
