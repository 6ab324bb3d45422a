"""The client: checks, asks the cache, and lets the cache ask the engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, TypedDict, Unpack

from ..cache import Ask, Kept, Layer, Owner, Produced, WindowCache, Windows
from ..cache.windowed import Codec
from ..context import current
from ..cost_tracker import CostTracker, is_owner_alive, owner_of
from ..errors import InvalidInputError
from ..search import Recency, SearchEngine, SearchResult
from ..search.base import restored
from ..types import Where
from .asking import engines_of, lease_of, pay, reach
from .freshness import windows_of
from .questions import Question, question_of

_ZERO = Decimal(0)


class CacheStats(TypedDict):
    """How the searches of a project were answered.

    `hit_rate` is `cache_hits` of `total_searches` (0 to 1; 0 before the first search). `stale`,
    `coalesced` and `negative` are parts of `cache_hits`: answers out of date while a refresh ran or
    the engine failed, answers of a search that another caller was making, and empty ones.
    """

    total_searches: int
    cache_hits: int
    paid_searches: int
    entries: int
    hit_rate: float
    stale: int
    coalesced: int
    negative: int


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Results, with where they come from.

    Attributes:
        source: ``none`` is no cache: an engine was asked. ``memory`` and ``database`` are fresh;
            ``stale`` is out of date, while a refresh runs or the engine fails; ``shared`` is a
            search that another caller was making.
        cost_usd: of this search, all attempts together: 0 from a cache, None when a price is
            unknown.
    """

    results: list[SearchResult]
    source: Layer
    cost_usd: Decimal | None


class WebSearchClient:
    """Web search with a cache; its cost is in the same ledger and budgets as model calls.

    Args:
        api_key: None means `<ENGINE>_API_KEY`. For one engine only, as is `base_url`.
        engine: ``zai``, ``serper``, ``tavily``, ``brave``, ``exa``, ``searxng``, a `SearchEngine`
            of the host, or a list of them: when one fails, the next is asked.
        base_url: None means `<ENGINE>_BASE_URL`, then the engine's own address.
        memory_cache_ttl: seconds that this process keeps an answer, while it is fresh.
        db_cache_ttl: seconds that an answer is fresh; None decides by what was asked. 0 keeps
            nothing in the database.
        cost_tracker: reserves and records; None makes one from `where`.
        where: `db`, `db_client` or `supabase_client`, and `project`.

    Raises:
        ConfigurationError: no such engine.
        InvalidInputError: a negative time to live, no engine or one twice, or a key for several.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        engine: str | SearchEngine | Sequence[str | SearchEngine] = "zai",
        base_url: str | None = None,
        memory_cache_ttl: float = 3600,
        db_cache_ttl: float | None = None,
        cost_tracker: CostTracker | None = None,
        **where: Unpack[Where],
    ) -> None:
        if memory_cache_ttl < 0 or (db_cache_ttl or 0) < 0:
            raise InvalidInputError("memory_cache_ttl and db_cache_ttl are seconds, 0 or more")
        self.engines = engines_of(engine)
        if len(self.engines) > 1 and (api_key or base_url):
            raise InvalidInputError(
                "api_key= and base_url= are of one engine: with several, set <ENGINE>_API_KEY and "
                "<ENGINE>_BASE_URL"
            )
        self._api_key = api_key
        self._base_url = base_url
        self._ttls = (float(memory_cache_ttl), db_cache_ttl)
        self._tracker = cost_tracker
        self._where = where
        # The cached answer is that of the list: another order may answer otherwise.
        self._names = ",".join(each.name for each in self.engines)
        self._lease_s = lease_of(len(self.engines))
        self._cache: WindowCache[SearchResult] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._caches: list[WindowCache[SearchResult]] = []

    @property
    def engine(self) -> SearchEngine:
        """The engine that is asked first."""
        return self.engines[0]

    @property
    def cost_tracker(self) -> CostTracker:
        """The tracker that every search of this client goes through."""
        if self._tracker is None:
            self._tracker = CostTracker(**self._where)
        return self._tracker

    def with_tracker(self, tracker: CostTracker) -> WebSearchClient:
        """Return the same client, reserving, recording and caching through another tracker."""
        memory_ttl, db_ttl = self._ttls
        other = WebSearchClient(
            self._api_key,
            engine=self.engines,
            base_url=self._base_url,
            memory_cache_ttl=memory_ttl,
            db_cache_ttl=db_ttl,
            cost_tracker=tracker,
        )
        # Whoever closes the first waits for the refreshes of the second, and writes its counts.
        other._work, other._caches = self._work, self._caches
        return other

    async def search(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | None = None,
        recency: Recency | None = None,
    ) -> list[SearchResult]:
        """Search the web, or answer from the cache.

        Args:
            count: most results, 1 to 50; an engine that gives fewer at once gives those.
            domains: only results of these hosts.
            recency: ``1d``, ``1w``, ``1m`` or ``1y``.

        Raises:
            InvalidInputError, ConfigurationError: the search can't be made; nothing was sent.
            BudgetError: refused before the wire.
            CallError: every engine failed, and no old answer can stand in; nothing is cached.
        """
        return list((await self._find(query, count, domains, recency)).value)

    async def answer(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | None = None,
        recency: Recency | None = None,
    ) -> SearchAnswer:
        """Search as `search` does, and say where the results come from and what they cost.

        It raises what `search` raises.
        """
        kept = await self._find(query, count, domains, recency)
        paid = kept.layer == "none"
        return SearchAnswer(list(kept.value), kept.layer, kept.cost_usd if paid else _ZERO)

    async def _find(
        self, query: str, count: int, domains: Sequence[str] | None, recency: Recency | None
    ) -> Kept[SearchResult]:
        # The results are shared and can't be changed; a list of them is the caller's own.
        question = question_of((self._project(), self._names), query, count, domains, recency)
        cache = self._cache_of()
        return cache.recall(question.key) or await cache.get(self._ask(question))

    async def get_cache_stats(self) -> CacheStats:
        """Count how the searches of this project were answered, over all processes.

        What another process answered is counted with its next batch: after half a minute and a
        search, or when it asks, too.
        """
        await self.cost_tracker.flush()
        counted = await self._cache_of().stats(self._project())
        total = counted["cache_hits"] + counted["paid"]
        return CacheStats(
            total_searches=total,
            cache_hits=counted["cache_hits"],
            paid_searches=counted["paid"],
            entries=counted["entries"],
            hit_rate=counted["cache_hits"] / total if total else 0.0,
            stale=counted.get("stale", 0),
            coalesced=counted.get("coalesced", 0),
            negative=counted.get("negative", 0),
        )

    async def aclose(self) -> None:
        """Wait for refreshes that run in the background, and write what was counted."""
        loop = asyncio.get_running_loop()
        while running := [task for task in self._work if task.get_loop() is loop]:
            await asyncio.gather(*running, return_exceptions=True)
        for cache in self._caches:
            await cache.flush()

    def _project(self) -> str:
        return current().project or self.cost_tracker.project

    def _cache_of(self) -> WindowCache[SearchResult]:
        if self._cache is None:
            db = self.cost_tracker.db
            owner = Owner(owner_of(db), partial(is_owner_alive, db))
            codec = Codec(_write, restored)
            self._cache = WindowCache(db, owner, codec, memory_s=self._ttls[0], work=self._work)
            self._caches.append(self._cache)
        return self._cache

    def _ask(self, question: Question) -> Ask[SearchResult]:
        async def produce() -> Produced[SearchResult]:
            reached = [reach(each, self._api_key, self._base_url) for each in self.engines]
            return await pay(self.cost_tracker, reached, question.query)

        def windows(found: bool) -> Windows:
            return windows_of(question.query_class, question.key, self._ttls[1], found=found)

        return Ask(question.key, question.about, produce, windows, self._lease_s)


def _write(result: SearchResult) -> dict[str, Any]:
    return result.model_dump(mode="json")
