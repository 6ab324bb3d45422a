"""The cache of searches: fresh, then stale while one refresh runs, then a stand-in for a failure.

Memory answers first. Then one read of the database, which writes nothing; only a miss claims the
lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from ..database import Database
from ..errors import CallError, DatabaseError, LLMCommonError
from ..telemetry import event
from . import counting
from .counting import Counted, Kind
from .leases import Flights, Leases, Owner

R = TypeVar("R")
Layer = Literal["memory", "database", "stale", "shared", "none"]

MEMORY_ENTRIES = 10_000
MOST_ENTRIES = 100_000
"""Answers that a project may keep in the database."""
TIDY_EVERY = 64
"""One fill of so many looks whether there are more."""
TIDY_BATCH = 1_000
REST_S = 30.0
"""After a failure an old answer serves for so long before the engine is asked again."""
SHOWN = 12
"""Characters of a key that are enough to find its row."""


@dataclass(frozen=True, slots=True)
class Windows:
    """For how long an answer serves, in seconds; the later two begin where the first ends.

    Attributes:
        fresh_s: as it is; 0 keeps nothing in the database.
        stale_s: at once, while one refresh runs behind it.
        error_s: where the engine fails.
    """

    fresh_s: float
    stale_s: float = 0.0
    error_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Produced(Generic[R]):
    """An answer that was searched for; a cost of None is unknown."""

    value: Sequence[R]
    cost_usd: Decimal | None


class Kept(NamedTuple, Generic[R]):
    """An answer and the layer that had it. It is shared by all who ask, and not to be changed.

    Attributes:
        layer: `shared` is another caller's flight, `none` means that it was produced.
        cost_usd: what it cost when it was produced.
    """

    value: Sequence[R]
    layer: Layer
    cost_usd: Decimal | None
    counted: Counted


class Ask(NamedTuple, Generic[R]):
    """One question to the cache.

    Attributes:
        about: project, class and what else is stored beside the answer.
        produce: called by at most one caller at a time, over all processes.
        windows: says for how long to keep an answer, by whether anything was found.
        lease_s: when a producer that can't be seen is given up.
    """

    key: str
    about: Mapping[str, Any]
    produce: Callable[[], Awaitable[Produced[R]]]
    windows: Callable[[bool], Windows]
    lease_s: float

    def counted(self, cost_usd: Decimal | None) -> Counted:
        """Return what hits of the answer are counted by."""
        return Counted(self.key, self.about["project"], self.about["class"], cost_usd)


@dataclass(frozen=True, slots=True)
class Codec(Generic[R]):
    """How one result is written as JSON, and how all results of an answer are read again."""

    write: Callable[[R], Any]
    read: Callable[[list[Any]], Sequence[R]]


class WindowCache(Generic[R]):
    """The search cache of one client.

    Args:
        memory_s: how long this process keeps a fresh answer; 0 leaves it to the database.
        most_entries: of a project, in the database.
        work: where refreshes that run in the background are kept.
    """

    def __init__(
        self,
        db: Database,
        owner: Owner,
        codec: Codec[R],
        *,
        memory_s: float,
        work: set[asyncio.Task[None]],
        most_entries: int = MOST_ENTRIES,
    ) -> None:
        self._db = db
        self._codec = codec
        self._memory_s = memory_s
        self._work = work
        self._most_entries = most_entries
        self._leases = Leases(db, owner, "llm_search")
        self._memory: OrderedDict[str, tuple[float, Kept[R]]] = OrderedDict()
        self._flights: Flights[Kept[R]] = Flights()
        self._refreshing: set[str] = set()

    def recall(self, key: str) -> Kept[R] | None:
        """Return what memory has under a key, as long as it is fresh."""
        entry = self._memory.get(key)
        if entry is None or entry[0] <= time.monotonic():
            return None
        self._count(entry[1], "fresh")
        return entry[1]

    async def get(self, ask: Ask[R]) -> Kept[R]:
        """Return what is kept, else produce it once and keep it.

        Raises:
            Whatever `produce` raises, in every caller that waited for this flight; a `CallError`
            only where no old answer can stand in.
        """
        found = await self._read(ask.key)
        if found["state"] != "none":
            if found.get("refresh") and ask.key not in self._refreshing:
                self._refreshing.add(ask.key)
                self._spawn(self._refresh(ask))
            return self._found(ask, found, shared=False)
        kept, joined = await self._flights.join(ask.key, lambda: self._lead(ask))
        if not joined:
            return kept
        self._count(kept, "coalesced")
        return kept._replace(layer="shared")

    async def stats(self, project: str) -> dict[str, Any]:
        """Write what was counted, and return the database's counts for a project."""
        await counting.flush(self._db)
        return await self._leases.call("stats", {"project": project})

    async def flush(self) -> None:
        """Write what was counted; if the database is away, it is written later."""
        try:
            await counting.flush(self._db)
        except DatabaseError as error:
            event("cache.not_counted", level=logging.WARNING, error=type(error).__name__)

    async def _read(self, key: str, *, covering: bool = False) -> dict[str, Any]:
        more = {"covering": True} if covering else {}
        return await self._db.call("llm_search_read", {"cache_key": key, **more})

    async def _lead(self, ask: Ask[R]) -> Kept[R]:
        """Take the lease and search, or wait for whoever has it."""
        lease = self._leases.new(ask.key)
        answer, waited = await self._leases.claim(self._claim(ask, lease))
        if answer["state"] != "yours":
            return self._found(ask, answer, shared=waited)
        try:
            produced = await self._produce(ask, lease, rests_after=CallError)
        except CallError as error:
            old = await self._read(ask.key, covering=True)
            if old["state"] == "none":
                raise
            event(
                "search.stale_if_error",
                level=logging.WARNING,
                key=ask.key[:SHOWN],
                error=type(error).__name__,
            )
            return self._found(ask, old, shared=False)
        return await self._fill(ask, lease, produced)

    async def _refresh(self, ask: Ask[R]) -> None:
        """Search again for an answer that is stale, unless somebody does so already."""
        lease = self._leases.new(ask.key)
        try:
            claim = {**self._claim(ask, lease), "refresh": True}
            if (await self._leases.call("claim", claim))["state"] == "yours":
                produced = await self._produce(ask, lease, rests_after=LLMCommonError)
                await self._fill(ask, lease, produced)
        except LLMCommonError as error:
            # Its caller has his answer; the next one after a rest tries again.
            event(
                "search.refresh_failed",
                level=logging.WARNING,
                key=ask.key[:SHOWN],
                error=type(error).__name__,
            )
        finally:
            self._refreshing.discard(ask.key)

    def _claim(self, ask: Ask[R], lease: Mapping[str, Any]) -> dict[str, Any]:
        return {**ask.about, **lease, "lease_s": ask.lease_s}

    async def _produce(
        self, ask: Ask[R], lease: Mapping[str, Any], rests_after: type[LLMCommonError]
    ) -> Produced[R]:
        """Search; after a failure the lease is given back, and nothing else is kept."""
        try:
            return await ask.produce()
        except BaseException as error:
            rest = {"rest_s": REST_S} if isinstance(error, rests_after) else {}
            await asyncio.shield(self._leases.tell("release", {**lease, **rest}))
            raise

    async def _fill(self, ask: Ask[R], lease: Mapping[str, Any], produced: Produced[R]) -> Kept[R]:
        windows = ask.windows(bool(produced.value))
        if windows.fresh_s > 0:
            entry = {
                "results": [self._codec.write(each) for each in produced.value],
                "class": ask.about["class"],
                "cost_usd": produced.cost_usd,
                "ttl_s": windows.fresh_s,
                "stale_s": windows.stale_s,
                "error_s": windows.error_s,
            }
            await self._leases.tell("fill", {**lease, **entry})
            await self._tidy(ask)
        else:
            await self._leases.tell("release", lease)
        kept = Kept(produced.value, "none", produced.cost_usd, ask.counted(produced.cost_usd))
        self._remember(kept, windows.fresh_s or self._memory_s)
        return kept

    async def _tidy(self, ask: Ask[R]) -> None:
        """Now and then, by the key, look whether the project keeps too many answers."""
        if is_tidied_by(ask.key):
            bound = {"most": self._most_entries, "batch": TIDY_BATCH}
            await self._leases.tell("tidy", {"project": ask.about["project"], **bound})

    def _found(self, ask: Ask[R], answer: Mapping[str, Any], *, shared: bool) -> Kept[R]:
        """Take over what the database has, count it, and keep what is fresh in memory."""
        cost = answer.get("cost_usd")
        cost_usd = None if cost is None else Decimal(cost)
        value = self._codec.read(answer["results"])
        is_stale = answer["state"] == "stale"
        layer: Layer = "stale" if is_stale else "shared" if shared else "database"
        kept = Kept(value, layer, cost_usd, ask.counted(cost_usd))
        self._count(kept, "stale" if is_stale else "coalesced" if shared else "fresh")
        if not is_stale:
            self._remember(kept, answer.get("fresh_s", self._memory_s))
        return kept

    def _remember(self, kept: Kept[R], fresh_s: float) -> None:
        keep_s = min(self._memory_s, fresh_s)
        if kept.value and keep_s > 0:
            key = kept.counted.cache_key
            self._memory[key] = (time.monotonic() + keep_s, kept._replace(layer="memory"))
            self._memory.move_to_end(key)
            if len(self._memory) > MEMORY_ENTRIES:
                self._memory.popitem(last=False)

    def _count(self, kept: Kept[R], kind: Kind) -> None:
        # An answer counts once: one that has nothing is negative, however it came.
        if counting.count(self._db, kept.counted, kind if kept.value else "negative"):
            self._spawn(self.flush())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def is_tidied_by(key: str) -> bool:
    """Tell, by the key alone, whether its fill looks after the bound. Pure."""
    return int(key[-8:], 16) % TIDY_EVERY == 0
