"""The bound covers what was billed, for every recorded answer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.cost_tracker.bounds import TokenBound, token_bound
from llm_common.pricing import cost_of, litellm_entry, price_of, upper_bound_nano
from tests.support import data_dir

from .billing import NANO, billed, requested_model, searches
from .replay import Exchange, exchanges

SEARCH_USD = Decimal("0.01")  # Anthropic's price of a hosted search

# Streams that broke off with an error event before any usage was named.
NO_USAGE = {
    "groq/test_groq/test_tool_use_failed_error_streaming#0",
    "groq/test_groq/test_tool_use_failed_error_streaming_with_text#0",
}


def bound_of(exchange: Exchange) -> TokenBound:
    """Bound a recorded request, whichever provider's format it has."""
    request, model = exchange["request"], requested_model(exchange)
    if exchange["api"].startswith("gemini"):
        return gemini_bound(request, model)
    system = [{"role": "system", "content": request["system"]}] if request.get("system") else []
    known = {"messages", "tools", "response_format", "output_config", "system", "model"}
    sent = request.get("max_tokens") or request.get("max_completion_tokens")
    return token_bound(
        [*system, *request["messages"]],
        tools=request.get("tools") or (),
        response_format=request.get("response_format") or request.get("output_config"),
        max_tokens=sent or model_max(exchange["provider"], model),
        extra={key: value for key, value in request.items() if key not in known},
        model=model,
    )


def gemini_bound(request: Mapping[str, Any], model: str) -> TokenBound:
    config = request.get("generationConfig") or {}
    system = [request["systemInstruction"]] if request.get("systemInstruction") else []
    return token_bound(
        [*system, *request["contents"]],
        tools=request.get("tools") or (),
        response_format=config.get("responseSchema") or config.get("responseJsonSchema"),
        max_tokens=config.get("maxOutputTokens") or model_max("gemini", model),
        extra={"toolConfig": request.get("toolConfig"), "generationConfig": config},
        model=model,
    )


def model_max(provider: str, model: str) -> int:
    """The model's own maximum, where the recorded request named none."""
    entry = litellm_entry(provider, model) or litellm_entry("openai", model.rpartition("/")[2])
    return int((entry or {}).get("max_output_tokens") or 65_536)


def successes() -> list[Exchange]:
    return [e for e in exchanges() if e["status"] == 200 and e["api"] != "openai-embeddings"]


def test_every_recorded_answer_is_within_its_bound() -> None:
    checked, ratios = 0, []
    for exchange in successes():
        bills = billed(exchange)
        if not bills:
            assert exchange["id"] in NO_USAGE
            continue
        bound = bound_of(exchange)
        used_in = sum(bill.usage.input_tokens for bill in bills)
        used_out = sum(bill.usage.output_tokens for bill in bills)
        assert bound.input_tokens >= used_in, (exchange["id"], bound, used_in)
        assert bound.output_tokens >= used_out, (exchange["id"], bound, used_out)
        checked += 1
        if used_in and not bound.fees_nano:
            ratios.append(bound.input_tokens / used_in)
    assert checked == len(successes()) - len(NO_USAGE) == 319
    # The recorded requests are tiny, so the caps for prompts about tools weigh most: 9 times.
    assert statistics.median(ratios) < 10


def test_every_recorded_answer_costs_no_more_than_its_priced_bound() -> None:
    unpriced: set[str] = set()
    for exchange in successes():
        provider, model, bound = exchange["provider"], requested_model(exchange), bound_of(exchange)
        prices = {name: price_of(provider, name) for name in (model, *bound.models)}
        if None in prices.values():
            unpriced.add(exchange["id"])
            continue
        cap = bound.fees_nano + max(
            upper_bound_nano(price, bound.input_tokens, bound.output_tokens)
            for price in prices.values()
            if price is not None
        )
        spent = Decimal(0)
        for bill in billed(exchange):
            cost = cost_of(bill.usage, price_of(provider, bill.model), bill.cost_usd)
            assert cost.usd is not None, exchange["id"]
            spent += cost.usd
        if provider == "anthropic":
            spent += searches(exchange) * SEARCH_USD
        assert cap >= spent * NANO, (exchange["id"], cap, spent)
    assert unpriced == set()


def test_the_material_has_hosted_tools_and_media() -> None:
    """The caps are tested by what they are for."""
    kinds = {
        str(tool.get("type") or next(iter(tool)))
        for exchange in successes()
        for tool in exchange["request"].get("tools") or ()
    }
    assert {"web_search_20250305", "web_fetch_20250910", "codeExecution", "urlContext"} <= kinds
    assert data_dir("wire").is_dir()


@given(st.text(), st.integers(1, 100_000))
def test_text_is_bounded_by_its_bytes(text: str, max_tokens: int) -> None:
    bound = token_bound([{"role": "user", "content": text}], max_tokens=max_tokens, model="m")
    assert bound.input_tokens >= len(text.encode(errors="surrogatepass"))
    assert bound.output_tokens == max_tokens


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5), st.text(max_size=50))
def test_more_messages_never_lower_the_bound(texts: list[str], more: str) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    longer = [*messages, {"role": "user", "content": more}]
    fewer = token_bound(messages, max_tokens=1)
    assert token_bound(longer, max_tokens=1).input_tokens > fewer.input_tokens


URL = {"url": "https://x/y.png"}
INLINE_IMAGE = {"url": "data:image/png;base64," + "A" * 10**6}
INLINE_PDF = {"file_data": "data:application/pdf;base64," + "A" * 4000}
AUDIO = {"data": "A" * 32_000, "format": "mp3"}


@pytest.mark.parametrize(
    ("part", "at_least", "at_most"),
    [
        ({"type": "image_url", "image_url": URL}, 4_784, 10_000),
        ({"type": "image_url", "image_url": INLINE_IMAGE}, 4_784, 10_000),
        ({"type": "file", "file": {"file_id": "file-1"}}, 100_000, 300_000),
        ({"type": "file", "file": INLINE_PDF}, 4_000, 20_000),
        ({"type": "input_audio", "input_audio": AUDIO}, 1_000, 5_000),
        ({"inlineData": {"mimeType": "image/png", "data": "A" * 10**6}}, 4_784, 10_000),
        ({"type": "text", "text": "abcdef"}, 6, 200),
    ],
)
def test_media_has_declared_caps(part: dict[str, Any], at_least: int, at_most: int) -> None:
    bound = token_bound([{"role": "user", "content": [part]}], max_tokens=1, model="gpt-4o")
    assert at_least <= bound.input_tokens <= at_most


def test_a_model_with_dear_images_has_its_own_cap() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    message = [{"role": "user", "content": [picture]}]
    assert token_bound(message, max_tokens=1, model="gpt-4o-mini").input_tokens > 48_000
    assert token_bound(message, max_tokens=1).input_tokens > 48_000


def test_n_answers_are_bounded_n_times() -> None:
    message = [{"role": "user", "content": "x"}]
    assert token_bound(message, max_tokens=10, extra={"n": 3}).output_tokens == 30


def test_models_named_in_arguments_are_told() -> None:
    message = [{"role": "user", "content": "x"}]
    bound = token_bound(message, max_tokens=1, extra={"models": ["x-ai/grok-4"]}, model="m")
    assert bound.models == ("x-ai/grok-4",)


def test_a_cache_for_an_hour_is_noticed_wherever_it_is_asked_for() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    plain = [{"role": "user", "content": "keep this 1h"}]
    said = [{"role": "user", "content": [{"type": "text", "text": "x", **hour}]}]
    assert not token_bound(plain, max_tokens=1).keeps_an_hour
    assert token_bound(said, max_tokens=1).keeps_an_hour
    assert token_bound(plain, tools=[{"name": "t", **hour}], max_tokens=1).keeps_an_hour
    assert token_bound(plain, extra=hour, max_tokens=1).keeps_an_hour
