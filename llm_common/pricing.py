"""What a call costs: rules over versioned price data, in exact decimals.

An unknown price is None and never 0; a free model is 0 because the data says so.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from .errors import ConfigurationError, CurrencyError
from .types import Usage

PRICES_FILE = Path(__file__).parent / "data" / "prices.toml"

ZERO = Decimal(0)
NANO = Decimal(10**9)

_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")
_LITELLM_TIER = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
_LITELLM_RATES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
}

Rates = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Price:
    """Rates of one model at one provider, in USD.

    Attributes:
        input: per input token.
        output: per output token.
        cached_input: per input token read from a cache; None means `input`.
        cache_write: per input token written to a cache; None means `input`.
        reasoning: per reasoning token; None means `output`.
        cache_write_1h: per input token written to a cache for an hour; None means `cache_write`.
        request: per request.
        search: per search by the provider's own tool; None means unknown.
        source: ``prices`` (our data) or ``litellm`` (its map).
        version: of that source.
        above: dearer rates as (input tokens, price): once a request's input exceeds the
            number, all of the request is billed by that price.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    cache_write_1h: Decimal | None = None
    request: Decimal = ZERO
    search: Decimal | None = None
    source: str = "prices"
    version: str = ""
    above: tuple[tuple[int, Price], ...] = ()

    @property
    def is_per_request(self) -> bool:
        """Whether tokens cost nothing, so that the cost is known without a usage."""
        return not any((self.input, self.output, self.cached_input, self.cache_write))

    def at(self, input_tokens: int) -> Price:
        """Return the rates that hold for a request with this much input."""
        reached = [tier for tier in self.above if input_tokens > tier[0]]
        return max(reached, key=lambda tier: tier[0])[1] if reached else self


@dataclass(frozen=True, slots=True)
class Cost:
    """What one attempt cost.

    Attributes:
        usd: unrounded; None when the price is unknown.
        source: ``provider`` (it said so), ``prices``, ``litellm``, or None when unknown.
        version: of the price data; None when the provider named the cost.
    """

    usd: Decimal | None
    source: str | None = None
    version: str | None = None


def cost_of(
    usage: Usage | None, price: Price | None, reported: Decimal | None = None, provider: str = ""
) -> Cost:
    """Cost one attempt: what the provider reports, else its usage by the price.

    Cached and cache-write tokens are parts of the input and reasoning is a part of the output,
    so each token is billed once. Without a usage only a price per request is a cost.

    Args:
        provider: whose prices hold for models that the answering one consulted.
    """
    if reported is not None:
        return Cost(reported, "provider")
    if price is None:
        return Cost(None)
    if usage is None:
        known = price.request if price.is_per_request else None
        return Cost(known, price.source, price.version) if known is not None else Cost(None)
    helpers = (cost_of(h.usage, price_of(provider, h.model)).usd for h in usage.helpers)
    parts = [_tokens_usd(usage, price), _searches_usd(usage, price), *helpers]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return Cost(None)
    return Cost(sum(known, ZERO), price.source, price.version)


def _tokens_usd(usage: Usage, price: Price) -> Decimal:
    rates = price.at(usage.input_tokens)
    cached, written, kept = (
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
    )
    plain = max(usage.input_tokens - cached - written, 0)
    visible = max(usage.output_tokens - usage.reasoning_tokens, 0)
    write = _or(rates.cache_write, rates.input)
    return (
        plain * rates.input
        + cached * _or(rates.cached_input, rates.input)
        + max(written - kept, 0) * write
        + kept * _or(rates.cache_write_1h, write)
        + visible * rates.output
        + usage.reasoning_tokens * _or(rates.reasoning, rates.output)
        + rates.request
    )


def _searches_usd(usage: Usage, price: Price) -> Decimal | None:
    if not usage.web_searches:
        return ZERO
    return None if price.search is None else usage.web_searches * price.search


def upper_bound_nano(
    price: Price,
    input_tokens: int,
    output_tokens: int,
    requests: int = 1,
    *,
    keeps_an_hour: bool = False,
) -> int:
    """Return the most that a call can cost, in nano-dollars, rounded up.

    Args:
        keeps_an_hour: the request asks for a cache that lasts an hour, which is dearer.

    Takes the dearest rate that this many tokens can meet: a cache write instead of plain input,
    reasoning instead of plain output, a tier for long input where it can be reached.
    """
    reachable = [price, *(tier for tokens, tier in price.above if input_tokens > tokens)]
    usd = max(
        input_tokens * _dearest_input(rates, keeps_an_hour=keeps_an_hour)
        + output_tokens * max(rates.output, _or(rates.reasoning, ZERO))
        + requests * rates.request
        for rates in reachable
    )
    return int((usd * NANO).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=2048)
def price_of(provider: str, model: str) -> Price | None:
    """Return the price of a model by the provider's own id, or None when it is unknown.

    Looks in our data and then in litellm's map, each for the id and then for the id without its
    date suffix.
    """
    if provider in unmetered_providers() or (provider == "openrouter" and model.endswith(":free")):
        return Price(ZERO, ZERO, source="prices", version=prices_version())
    name = model.removeprefix("models/")
    names = (name, _DATED.sub("", name))
    found = (look(provider, each) for look in (_our_price, _litellm_price) for each in names)
    return next((price for price in found if price is not None), None)


def prices_version() -> str:
    """Return the version of the shipped price data, a date."""
    return str(_prices()["version"])


def unmetered_providers() -> frozenset[str]:
    """Return the providers that run on the host's own machine."""
    return frozenset(_prices()["unmetered"])


def litellm_entry(provider: str, model: str) -> Rates | None:
    """Return litellm's facts about a model of a provider (limits, rates), or None."""
    entries = litellm_map()
    for key in (f"{provider}/{model}", model):
        entry = entries.get(key)
        if entry is not None and entry.get("litellm_provider") == provider:
            return entry
    return None


@lru_cache(maxsize=1)
def litellm_map() -> Mapping[str, Rates]:
    """Read the price map inside the installed litellm package, without importing litellm.

    Raises:
        ConfigurationError: litellm is not installed whole.
    """
    spec = find_spec("litellm")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = Path(folder) / "model_prices_and_context_window_backup.json"
        if path.is_file():
            return json.loads(path.read_bytes(), parse_float=Decimal)
    raise ConfigurationError("litellm's price map is missing: install litellm again")


def _or(rate: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if rate is None else rate


def _dearest_input(rates: Price, *, keeps_an_hour: bool) -> Decimal:
    hour = rates.cache_write_1h if keeps_an_hour else None
    others = (rates.cache_write, rates.cached_input, hour)
    return max(rates.input, *(_or(rate, ZERO) for rate in others))


@lru_cache(maxsize=1)
def _prices() -> Mapping[str, Any]:
    return in_usd(tomllib.loads(PRICES_FILE.read_text(encoding="utf-8"), parse_float=Decimal))


def in_usd(prices: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return price data, all of it in USD.

    Raises:
        CurrencyError: the data, or an entry of it, names another currency.
    """
    entries = (e for models in prices["prices"].values() for e in models.items())
    for name, table in (("the price data", prices), *entries):
        if table.get("currency", "USD") != "USD":
            raise CurrencyError(f"{name} is in {table['currency']}: prices must be in USD")
    return prices


def _our_price(provider: str, model: str) -> Price | None:
    entry = _prices()["prices"].get(provider, {}).get(model)
    if entry is None:
        return None
    if same := entry.get("same_as"):
        return _our_price(*str(same).split("/", 1))
    base = _per_million(entry)
    tiers = ((int(tier["tokens"]), _per_million(tier)) for tier in entry.get("above", ()))
    return replace(base, above=tuple(tiers))


def _per_million(entry: Rates) -> Price:
    rates: dict[str, Any] = {
        key: Decimal(entry[key]).scaleb(-6) for key in _LITELLM_RATES if entry.get(key) is not None
    }
    return Price(
        **rates,
        request=Decimal(entry.get("request", 0)),
        search=entry.get("search"),
        source="prices",
        version=prices_version(),
    )


def _litellm_price(provider: str, model: str) -> Price | None:
    entry = litellm_entry(provider, model)
    base = None if entry is None else _litellm_rates(entry, "")
    if entry is None or base is None:
        return None
    tiers: list[tuple[int, Price]] = []
    for key in entry:
        if found := _LITELLM_TIER.match(key):
            tier = _litellm_rates(entry, f"_above_{found[1]}k_tokens")
            tiers += [(int(found[1]) * 1000, tier)] if tier else []
    return replace(base, above=(*tiers, *_listed_tiers(entry)))


def _listed_tiers(entry: Rates) -> list[tuple[int, Price]]:
    listed = cast("list[Rates]", entry.get("tiered_pricing") or [])
    tiers = (
        (int(tier["range"][0]), _litellm_rates(tier, "")) for tier in listed if "range" in tier
    )
    return [(start, tier) for start, tier in tiers if start > 0 and tier is not None]


def _litellm_rates(entry: Rates, suffix: str) -> Price | None:
    """Rates of an entry; None where it names none, or 0 for everything: nobody said free."""
    found = {key: entry.get(theirs + suffix) for key, theirs in _LITELLM_RATES.items()}
    if found["input"] is None and "tiered_pricing" in entry:
        return _litellm_rates(entry["tiered_pricing"][0], "")
    if found["output"] is None and entry.get("mode") == "embedding":
        found["output"] = ZERO
    request = Decimal(entry.get("input_cost_per_request", 0))
    if found["input"] is None or found["output"] is None:
        return None
    if not (found["input"] or found["output"] or request):
        return None
    rates: dict[str, Any] = {
        key: Decimal(value) for key, value in found.items() if value is not None
    }
    searches = cast("Rates", entry.get("search_context_cost_per_query") or {})
    if "search_context_size_medium" in searches:
        rates["search"] = Decimal(searches["search_context_size_medium"])
    # The map writes 0 where a provider has no price for cache writes: they are plain input.
    if not rates.get("cache_write"):
        rates.pop("cache_write", None)
    return Price(**rates, request=request, source="litellm", version=_litellm_version())


@lru_cache(maxsize=1)
def _litellm_version() -> str:
    return installed_version("litellm")
