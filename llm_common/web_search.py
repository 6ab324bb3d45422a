"""`WebSearchClient`: a search that is paid for once, and cached in memory and Postgres."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from functools import partial
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit

from .cache import LeaseCache, Owner, Terms
from .calls import Answer, Operation, Target, attempt, operate
from .context import current
from .cost_tracker import CostTracker, Kind, is_owner_alive, owner_of
from .errors import ConfigurationError, InvalidInputError, MissingKeyError
from .pricing import price_of, upper_bound_nano
from .routing import Policy
from .search import (
    RECENCIES,
    Endpoint,
    Recency,
    SearchEngine,
    SearchQuery,
    SearchResult,
    engine_named,
)
from .types import Lane, Where

__all__ = ["CacheStats", "SearchResult", "WebSearchClient"]

KEY_VERSION = 1
MOST_RESULTS = 50
TIMEOUT_S = 30.0
EMPTY_TTL_S = 60.0
"""How long an empty answer is kept: what is not found today may be tomorrow."""
POLICY = Policy(max_attempts=3, wall_time_s=60.0)
_SPACE = re.compile(r"\s+")
_HOST = re.compile(r"[^\s/:@]+\.[^\s/:@]+")


class CacheStats(TypedDict):
    """How the searches of a project were answered.

    `hit_rate` is `cache_hits` of `total_searches` (0 to 1; 0 before the first search).
    """

    total_searches: int
    cache_hits: int
    paid_searches: int
    entries: int
    hit_rate: float


class WebSearchClient:
    """Web search with a cache; its cost is in the same ledger and budgets as model calls.

    Args:
        api_key: None means `<ENGINE>_API_KEY`.
        engine: ``zai`` or ``serper``, or a `SearchEngine` of the host.
        base_url: None means `<ENGINE>_BASE_URL`, then the engine's own address.
        memory_cache_ttl: seconds that this process keeps an answer.
        db_cache_ttl: seconds that the database keeps it.
        cost_tracker: reserves and records; None makes one from `where`.
        where: `db`, `db_client` or `supabase_client`, and `project`.

    Raises:
        ConfigurationError: no such engine.
        InvalidInputError: a negative time to live.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        engine: str | SearchEngine = "zai",
        base_url: str | None = None,
        memory_cache_ttl: float = 3600,
        db_cache_ttl: float = 86400,
        cost_tracker: CostTracker | None = None,
        **where: Unpack[Where],
    ) -> None:
        if memory_cache_ttl < 0 or db_cache_ttl < 0:
            raise InvalidInputError("memory_cache_ttl and db_cache_ttl are seconds, 0 or more")
        self.engine = engine_named(engine) if isinstance(engine, str) else engine
        self._api_key = api_key
        self._base_url = base_url
        self._ttls = (float(memory_cache_ttl), float(db_cache_ttl))
        self._tracker = cost_tracker
        self._where = where
        self._cache: LeaseCache | None = None

    @property
    def cost_tracker(self) -> CostTracker:
        """The tracker that every search of this client goes through."""
        if self._tracker is None:
            self._tracker = CostTracker(**self._where)
        return self._tracker

    def with_tracker(self, tracker: CostTracker) -> WebSearchClient:
        """Return the same client, reserving, recording and caching through another tracker."""
        memory_ttl, db_ttl = self._ttls
        return WebSearchClient(
            self._api_key,
            engine=self.engine,
            base_url=self._base_url,
            memory_cache_ttl=memory_ttl,
            db_cache_ttl=db_ttl,
            cost_tracker=tracker,
        )

    async def search(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | None = None,
        recency: Recency | None = None,
    ) -> list[SearchResult]:
        """Search the web, or answer from the cache.

        Args:
            count: most results, 1 to 50.
            domains: only results of these hosts.
            recency: ``1d``, ``1w``, ``1m`` or ``1y``.

        Raises:
            InvalidInputError, ConfigurationError: the search can't be made; nothing was sent.
            BudgetError: refused before the wire.
            CallError: the engine failed; nothing is cached.
        """
        wanted = _query(query, count, domains, recency)
        project = self._project()
        about = {
            "project": project,
            "query": wanted.query,
            "engine": self.engine.name,
            "params": {"count": count, "domains": list(wanted.domains), "recency": recency},
        }

        async def produce() -> list[Any]:
            return [result.model_dump(mode="json") for result in await self._pay(wanted)]

        cached = await self._cache_of().get(cache_key(about), about, produce, self._terms())
        # A copy, because `raw` can be changed by whoever gets it.
        return [SearchResult.model_validate(result) for result in copy.deepcopy(cached.value)]

    async def get_cache_stats(self) -> CacheStats:
        """Count how the searches of this project were answered, over all processes.

        What the memory of another process answered is counted once that process asks, too.
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
        )

    def _project(self) -> str:
        return current().project or self.cost_tracker.project

    def _cache_of(self) -> LeaseCache:
        if self._cache is None:
            db = self.cost_tracker.db
            owner = Owner(owner_of(db), partial(is_owner_alive, db))
            self._cache = LeaseCache(db, owner, "llm_search")
        return self._cache

    def _terms(self) -> Terms:
        memory_ttl, db_ttl = self._ttls
        return Terms(
            memory_ttl,
            lambda found: db_ttl if found else min(EMPTY_TTL_S, db_ttl),
            lease_s=POLICY.wall_time_s + TIMEOUT_S,
        )

    async def _pay(self, query: SearchQuery) -> list[SearchResult]:
        """Search for real: one operation, at most three attempts."""
        endpoint = _endpoint(self.engine, self._api_key, self._base_url)
        engine = self.engine
        price = price_of(engine.name, engine.product)
        target = Target(
            engine.name,
            engine.product,
            endpoint.key_alias,
            price,
            price and upper_bound_nano(price, 0, 0),
            _lane(engine.name, endpoint),
        )
        op = Operation(
            self.cost_tracker, current(), engine.product, TIMEOUT_S, "search", name="web_search"
        )

        async def send() -> Answer[list[SearchResult]]:
            results = await engine.search(query, endpoint, timeout_s=TIMEOUT_S)
            return Answer(_wanted(results, query))

        async def try_one(target: Target, kind: Kind) -> list[SearchResult]:
            return (await attempt(op, target, kind, send)).value

        return await operate(op, [target], try_one, POLICY)


def _lane(engine: str, endpoint: Endpoint) -> Lane:
    """Name an engine with its key to cooldowns and circuits; the key can't be read from it."""
    place = "\0".join((engine, endpoint.base_url, endpoint.key)).encode()
    name = hashlib.blake2b(place, digest_size=12, person=b"llm_common").hexdigest()
    return Lane(name, f"{engine}/search", f"{engine} {endpoint.key_alias}")


def _query(
    query: str, count: int, domains: Sequence[str] | None, recency: Recency | None
) -> SearchQuery:
    text = _SPACE.sub(" ", query).strip()
    if not text:
        raise InvalidInputError("the search query is empty")
    if not 1 <= count <= MOST_RESULTS:
        raise InvalidInputError(f"count must lie in 1 to {MOST_RESULTS}, not {count!r}")
    if recency is not None and recency not in RECENCIES:
        raise InvalidInputError(f"recency must be one of {', '.join(RECENCIES)}, not {recency!r}")
    if isinstance(domains, str):
        raise InvalidInputError("domains must be a list of hosts, not one text")
    hosts = tuple(domain.strip().lower() for domain in domains or ())
    if odd := [host for host in hosts if not _HOST.fullmatch(host)]:
        raise InvalidInputError(f"domains must be hosts such as leg.ca.gov, not {odd[0]!r}")
    return SearchQuery(text, count, hosts, recency)


def _wanted(results: Sequence[SearchResult], query: SearchQuery) -> list[SearchResult]:
    """Hold an engine to the count and the domains that it was asked for."""
    kept = [r for r in results if not query.domains or _is_on(r.url, query.domains)]
    return kept[: query.count]


def _is_on(url: str, domains: Sequence[str]) -> bool:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return False
    return any(f".{host}".endswith(f".{domain}") for domain in domains)


def cache_key(about: dict[str, Any]) -> str:
    """Hash everything that decides the answer; the order of words, quotes and numbers stay."""
    normal = _SPACE.sub(" ", unicodedata.normalize("NFKC", about["query"])).strip().casefold()
    parts = json.dumps({**about, "query": normal, "v": KEY_VERSION}, sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def _endpoint(engine: SearchEngine, api_key: str | None, base_url: str | None) -> Endpoint:
    name = engine.name.upper()
    url = base_url or os.environ.get(f"{name}_BASE_URL") or engine.default_base_url
    if not url:
        raise ConfigurationError(f"{engine.name} has no endpoint: set {name}_BASE_URL")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{name}_BASE_URL must begin with https:// or http://")
    variable = f"{name}_API_KEY"
    key = api_key or os.environ.get(variable)
    if not key:
        raise MissingKeyError(f"no key for {engine.name}: pass api_key=… or set {variable}")
    return Endpoint(url, "argument" if api_key else variable, key.strip())
