"""Prices are data, cost is a rule: exact, and nothing billed twice."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.pricing import (
    PRICES_FILE,
    Cost,
    Price,
    cost_of,
    litellm_entry,
    litellm_map,
    price_of,
    prices_version,
    upper_bound_nano,
)
from llm_common.routing import load_registry
from llm_common.types import HelperUsage, Usage
from tests.wire.billing import requested_model
from tests.wire.replay import exchanges

D = Decimal
RATES = st.decimals(0, D("0.001"), allow_nan=False, allow_infinity=False, places=12)
TOKENS = st.integers(0, 2_000_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, plain = draw(TOKENS), draw(TOKENS), draw(TOKENS)
    reasoning, visible = draw(TOKENS), draw(TOKENS)
    return Usage(
        input_tokens=plain + cached + written,
        output_tokens=visible + reasoning,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
    )


@st.composite
def prices(draw: st.DrawFn, *, tiers: int = 2) -> Price:
    maybe = st.none() | RATES
    above = (
        [(draw(TOKENS), draw(prices(tiers=0))) for _ in range(draw(st.integers(0, tiers)))]
        if tiers
        else []
    )
    return Price(
        input=draw(RATES),
        output=draw(RATES),
        cached_input=draw(maybe),
        cache_write=draw(maybe),
        reasoning=draw(maybe),
        request=draw(RATES),
        above=tuple(sorted(above, key=lambda tier: tier[0])),
    )


def test_a_listed_price() -> None:
    price = price_of("openai", "gpt-4o")
    assert price is not None
    assert (price.input, price.output) == (D("0.0000025"), D("0.00001"))
    assert price.cached_input == D("0.00000125")
    assert (price.source, price.version) == ("prices", prices_version())


def test_a_date_suffix_is_dropped_when_the_id_is_not_listed() -> None:
    assert price_of("openai", "gpt-4o-2024-08-06") == price_of("openai", "gpt-4o")
    assert price_of("openai", "gpt-4o-2024-05-13") != price_of("openai", "gpt-4o")
    assert price_of("anthropic", "claude-haiku-4-5-20251001") is not None


def test_litellm_knows_what_we_do_not() -> None:
    price = price_of("mistral", "codestral-latest")
    assert price is not None
    assert price.source == "litellm"
    assert re.fullmatch(r"\d+\.\d+\.\d+", price.version)


def test_unknown_is_none() -> None:
    assert price_of("openai", "no-such-model") is None
    assert price_of("nobody", "gpt-4o") is None
    assert cost_of(Usage(input_tokens=1), None) == Cost(None, None, None)


def test_zeros_in_litellms_map_are_not_free() -> None:
    """Only our own data may say that a model is free."""
    entry = litellm_entry("zai", "glm-4.5-flash")
    assert entry is not None
    assert entry["input_cost_per_token"] == 0
    assert price_of("zai", "glm-4.5-flash") is None


def test_free_is_zero_explicitly() -> None:
    price = price_of("openrouter", "google/gemini-2.0-flash-exp:free")
    assert cost_of(Usage(input_tokens=10, output_tokens=10), price).usd == 0
    assert price_of("ollama", "whatever") is not None


def test_search_engines_are_priced_per_request() -> None:
    for engine, model, usd in (
        ("zai", "web_search", "0.01"),
        ("serper", "search", "0.001"),
        ("tavily", "search", "0.008"),
        ("brave", "search", "0.005"),
        ("exa", "search", "0.007"),
        ("searxng", "search", "0"),
        ("offline", "search", "0.0001"),
    ):
        price = price_of(engine, model)
        assert price is not None
        assert price.is_per_request
        assert cost_of(None, price).usd == D(usd)


def test_a_token_price_without_a_usage_is_no_cost() -> None:
    assert cost_of(None, price_of("openai", "gpt-4o")) == Cost(None)


def test_the_offline_model_is_priced() -> None:
    price = price_of("offline", "extractive")
    assert price == price_of("offline", "offline/extractive")
    million = Usage(input_tokens=10**6, output_tokens=10**6)
    assert cost_of(million, price).usd == D("0.25")


def test_what_the_provider_reports_wins() -> None:
    price = price_of("openrouter", "openai/gpt-4o")
    reported = cost_of(Usage(input_tokens=10), price, D("0.5"))
    assert reported == Cost(D("0.5"), "provider", None)


def test_a_long_input_is_billed_by_its_tier() -> None:
    price = price_of("gemini", "gemini-2.5-pro")
    assert price is not None
    assert cost_of(Usage(input_tokens=200_000), price).usd == D("0.25")
    assert cost_of(Usage(input_tokens=200_001), price).usd == 200_001 * D("0.0000025")
    assert upper_bound_nano(price, 200_000, 0) == 250_000_000
    assert upper_bound_nano(price, 200_001, 0) == 500_002_500


def test_a_cached_answer_of_anthropic_by_hand() -> None:
    usage = Usage(
        input_tokens=1000, output_tokens=10, cached_input_tokens=700, cache_write_tokens=200
    )
    by_hand = 100 * D("3e-6") + 700 * D("0.3e-6") + 200 * D("3.75e-6") + 10 * D("15e-6")
    assert cost_of(usage, price_of("anthropic", "claude-sonnet-4-5")).usd == by_hand


@given(usages(), prices())
def test_cost_is_exact_and_bills_each_token_once(usage: Usage, price: Price) -> None:
    rates = price.at(usage.input_tokens)

    def rate(value: Decimal | None, otherwise: Decimal) -> Fraction:
        return Fraction(otherwise if value is None else value)

    plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    expected = (
        plain * Fraction(rates.input)
        + usage.cached_input_tokens * rate(rates.cached_input, rates.input)
        + usage.cache_write_tokens * rate(rates.cache_write, rates.input)
        + (usage.output_tokens - usage.reasoning_tokens) * Fraction(rates.output)
        + usage.reasoning_tokens * rate(rates.reasoning, rates.output)
        + Fraction(rates.request)
    )
    cost = cost_of(usage, price)
    assert cost.usd is not None
    assert Fraction(cost.usd) == expected


@given(usages(), prices(), TOKENS, TOKENS)
def test_the_bound_is_never_below_the_cost(
    usage: Usage, price: Price, more_in: int, more_out: int
) -> None:
    cost = cost_of(usage, price).usd
    assert cost is not None
    bound = upper_bound_nano(price, usage.input_tokens + more_in, usage.output_tokens + more_out)
    assert bound >= cost * 10**9


def test_every_model_of_the_registry_is_priced() -> None:
    unpriced = {
        (provider, spec.id)
        for provider, models in load_registry().models.items()
        for spec in models.values()
        if (price := price_of(provider, spec.id)) is None or price.source != "prices"
    }
    assert unpriced == set()


def test_every_model_seen_in_recorded_answers_is_priced() -> None:
    asked = {(e["provider"], requested_model(e)) for e in exchanges() if e["status"] == 200}
    assert {pair for pair in asked if price_of(*pair) is None} == set()


def test_every_price_names_where_it_is_from() -> None:
    data = tomllib.loads(PRICES_FILE.read_text(encoding="utf-8"))
    listed = [(p, m, entry) for p, models in data["prices"].items() for m, entry in models.items()]
    assert {entry["from"] for *_, entry in listed} == set(data["origins"])
    assert all(price_of(provider, model) is not None for provider, model, _ in listed)


def test_figures_taken_from_litellm_are_still_what_it_says() -> None:
    data = tomllib.loads(PRICES_FILE.read_text(encoding="utf-8"), parse_float=Decimal)
    for provider, models in data["prices"].items():
        for model, entry in models.items():
            theirs = litellm_entry(provider, model)
            if entry["from"] != "litellm" or theirs is None or "same_as" in entry:
                continue
            if "input_cost_per_query" in theirs:
                assert D(entry["request"]) == theirs["input_cost_per_query"]
                continue
            assert D(entry["input"]).scaleb(-6) == theirs["input_cost_per_token"], model
            output = theirs.get("output_cost_per_token", D(0))
            assert D(entry["output"]).scaleb(-6) == output, model


def test_dropping_a_date_suffix_never_changes_a_price_that_litellm_knows() -> None:
    for key, entry in litellm_map().items():
        provider, name = entry.get("litellm_provider"), key.rpartition("/")[2]
        bare = re.sub(r"-(\d{4}-\d{2}-\d{2}|\d{8})$", "", name)
        if provider not in ("openai", "anthropic", "gemini") or bare == name:
            continue
        ours = price_of(provider, name)
        if ours is None or ours.source != "prices":
            continue
        assert ours.input == entry["input_cost_per_token"], name
        assert ours.output == entry["output_cost_per_token"], name


def test_prices_are_found_without_importing_litellm() -> None:
    code = (
        "import sys; from llm_common.pricing import price_of; "
        "assert price_of('mistral', 'codestral-latest'); assert 'litellm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("tokens", "nano"), [(0, 0), (1, 1), (3, 1), (10**6, 50_000)])
def test_bounds_round_up(tokens: int, nano: int) -> None:
    cheap = Price(input=D("0.00000000005"), output=D(0))
    assert upper_bound_nano(cheap, tokens, 0) == nano


def test_what_is_billed_beside_tokens_and_by_other_models() -> None:
    price = price_of("anthropic", "claude-sonnet-4-5")
    assert price is not None
    usage = Usage(
        input_tokens=100,
        output_tokens=10,
        cache_write_tokens=50,
        cache_write_1h_tokens=20,
        web_searches=2,
        helpers=(
            HelperUsage(model="claude-opus-4-8", usage=Usage(input_tokens=1000, output_tokens=100)),
        ),
    )
    tokens = 50 * D(3) + 30 * D("3.75") + 20 * D(6) + 10 * D(15)
    helper = 1000 * D(5) + 100 * D(25)
    cost = cost_of(usage, price, provider="anthropic")
    assert cost.usd == (tokens + helper) / 10**6 + 2 * D("0.01")


def test_a_part_without_a_price_makes_the_cost_unknown() -> None:
    price = Price(D("0.001"), D("0.001"))
    assert cost_of(Usage(web_searches=1), price) == Cost(None)
    stranger = HelperUsage(model="no-such-model", usage=Usage(input_tokens=1))
    assert cost_of(Usage(helpers=(stranger,)), price, provider="anthropic") == Cost(None)


@given(usages(), prices(), st.integers(0, 2_000_000))
def test_an_hour_in_the_cache_is_bounded_where_it_is_asked_for(
    usage: Usage, price: Price, hour: int
) -> None:
    kept = usage.model_copy(update={"cache_write_1h_tokens": min(hour, usage.cache_write_tokens)})
    dear = replace(price, cache_write_1h=2 * price.input, above=())
    cost = cost_of(kept, dear).usd
    assert cost is not None
    assert cost * 10**9 <= upper_bound_nano(
        dear, usage.input_tokens, usage.output_tokens, keeps_an_hour=True
    )
