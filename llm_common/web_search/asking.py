"""One search for real: an operation over engines in order, reserved and recorded like any call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..cache import Produced
from ..calls import Answer, Operation, Target, attempt, operate
from ..context import current
from ..cost_tracker import CostTracker, Kind
from ..errors import ConfigurationError, InvalidInputError, MissingKeyError
from ..pricing import price_of, upper_bound_nano
from ..routing import Policy
from ..search import Endpoint, Found, SearchEngine, SearchQuery, SearchResult, engine_named
from ..search.normal import kept
from ..types import Lane

TIMEOUT_S = 30.0
WALL_TIME_S = 60.0


@dataclass(frozen=True, slots=True)
class Reached:
    """An engine and where an attempt at it goes."""

    engine: SearchEngine
    endpoint: Endpoint
    target: Target

    @property
    def lane(self) -> Lane:
        """What its cooldowns and circuits go by."""
        return self.target.lane


def engines_of(named: str | SearchEngine | Sequence[str | SearchEngine]) -> list[SearchEngine]:
    """Return engines in the order in which they are asked.

    Raises:
        ConfigurationError: one is unknown.
        InvalidInputError: there is none, or one twice.
    """
    listed = [named] if isinstance(named, str) or not isinstance(named, Sequence) else named
    engines = [engine_named(each) if isinstance(each, str) else each for each in listed]
    names = [engine.name for engine in engines]
    if not names:
        raise InvalidInputError("name at least one search engine")
    if len(set(names)) < len(names):
        raise InvalidInputError(f"every search engine once, not {', '.join(names)}")
    return engines


def policy_of(engines: int) -> Policy:
    """Return the limits of one search: alone an engine is asked three times, with others twice."""
    retries = 2 if engines == 1 else 1
    return Policy(
        max_attempts=engines * (retries + 1),
        retries=retries,
        wall_time_s=WALL_TIME_S + (engines - 1) * TIMEOUT_S,
    )


def lease_of(engines: int) -> float:
    """Return for how many seconds a search may hold its lease."""
    return policy_of(engines).wall_time_s + TIMEOUT_S


async def pay(
    tracker: CostTracker, reached: Sequence[Reached], query: SearchQuery
) -> Produced[SearchResult]:
    """Ask the engines in order until one answers.

    What another engine may not have (429, a spent quota, 5xx, a timeout, a broken answer, a refused
    key) goes on to the next; a bad request is the caller's.

    Raises:
        BudgetError: refused before the wire.
        CallError: of the last attempt.
    """
    requested = reached[0].target.model
    op = Operation(tracker, current(), requested, TIMEOUT_S, "search", name="web_search")

    async def try_one(one: Reached, kind: Kind) -> list[SearchResult]:
        return (await attempt(op, one.target, kind, _send(one, query))).value

    found = await operate(op, reached, try_one, policy_of(len(reached)))
    return Produced(tuple(found), op.cost_usd)


def _send(one: Reached, query: SearchQuery) -> Callable[[], Awaitable[Answer[list[SearchResult]]]]:
    async def send() -> Answer[list[SearchResult]]:
        results = await one.engine.search(query, one.endpoint, timeout_s=TIMEOUT_S)
        cost_usd = results.cost_usd if isinstance(results, Found) else None
        wanted = kept(results, query, datetime.now(UTC).date())
        return Answer(wanted, reported_usd=cost_usd)

    return send


def reach(engine: SearchEngine, api_key: str | None, base_url: str | None) -> Reached:
    """Find an engine's address, key and price.

    Raises:
        ConfigurationError: it has no address, or one that is none.
        MissingKeyError: no key.
    """
    endpoint = _endpoint(engine, api_key, base_url)
    price = price_of(engine.name, engine.product)
    target = Target(
        engine.name,
        engine.product,
        endpoint.key_alias or None,
        price,
        price and upper_bound_nano(price, 0, 0),
        _lane(engine.name, endpoint),
    )
    return Reached(engine, endpoint, target)


def _lane(engine: str, endpoint: Endpoint) -> Lane:
    """Name an engine with its key to cooldowns and circuits; the key can't be read from it."""
    place = "\0".join((engine, endpoint.base_url, endpoint.key)).encode()
    name = hashlib.blake2b(place, digest_size=12, person=b"llm_common").hexdigest()
    return Lane(name, f"{engine}/search", f"{engine} {endpoint.key_alias}".strip())


def _endpoint(engine: SearchEngine, api_key: str | None, base_url: str | None) -> Endpoint:
    name = engine.name.upper()
    url = base_url or os.environ.get(f"{name}_BASE_URL") or engine.default_base_url
    if not url:
        raise ConfigurationError(f"{engine.name} has no endpoint: set {name}_BASE_URL")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{name}_BASE_URL must begin with https:// or http://")
    if not getattr(engine, "needs_key", True):
        return Endpoint(url, "", "")
    variable = f"{name}_API_KEY"
    key = api_key or os.environ.get(variable)
    if not key:
        raise MissingKeyError(f"no key for {engine.name}: pass api_key=… or set {variable}")
    return Endpoint(url, "argument" if api_key else variable, key.strip())
