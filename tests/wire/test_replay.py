"""Every recorded exchange through `LLMClient`: the ledger has what the recorded body says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient, providers
from llm_common.errors import (
    BadRequestError,
    BrokenResponseError,
    CallError,
    ModelNotFoundError,
    RateLimitedError,
)
from llm_common.pricing import Price, price_of
from llm_common.routing import load_registry
from llm_common.types import Usage

from .asking import call_of, registry_of
from .billing import billed, requested_model, searches
from .reading import said
from .replay import Exchange, Replay, exchanges, is_stream, replaying

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

COLUMNS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)
COUNTS = {
    "openai-chat": 170,
    "openai-embeddings": 3,
    "anthropic-messages": 81,
    "gemini-generate": 72,
    "gemini-stream": 8,
}
BASES = {"anthropic": "", "gemini": "/v1beta"}
ERRORS: dict[tuple[str, int], type[CallError]] = {
    ("groq", 200): BrokenResponseError,  # a stream that ends with an error event
    ("groq", 400): BrokenResponseError,  # the model wrote a malformed tool call
    ("groq", 404): ModelNotFoundError,
    ("openai", 400): BadRequestError,
    ("openai", 404): ModelNotFoundError,
    ("openrouter", 429): RateLimitedError,
    ("anthropic", 400): BadRequestError,
    ("anthropic", 404): ModelNotFoundError,
    ("gemini", 404): ModelNotFoundError,
}

# What the caller can't say in OpenAI's terms, or litellm does not pass on. These go out without
# it; their recorded answers are served and recorded like all others.
SIMPLER = {
    "gemini/test_google/test_google_model_thinking_part#1": "thoughts of an earlier turn",
    "gemini/test_google/test_google_model_thinking_part_from_other_model#1": "thoughts",
    "anthropic/test_anthropic/test_anthropic_web_fetch_tool#1": "Anthropic's tool results",
    "anthropic/test_anthropic/test_anthropic_code_execution_tool_container_reuse#1": "same",
    "anthropic/test_unpaired_native_tool_calls/"
    "test_in_flight_mcp_call_history_is_accepted#0": "same",
    "anthropic/test_code_execution_files_vcr/test_anthropic_code_execution_files_cache_prefix_"
    "stable[automatic-sonnet-4-6]#2": "same",
    **{
        "anthropic/test_tool_search/test_cross_provider_capability_replay[anthropic-claude-sonnet-"
        f"4-5-openai-responses-gpt-5.4]#{turn}": "the description of a whole schema"
        for turn in range(3)
    },
}
# litellm knows that the model takes no such effort and does not send it: asked without.
UNSENDABLE = (
    "anthropic/test_anthropic/test_anthropic_explicit_effort_xhigh_unsupported_model_errors#0"
)
SPOKEN = {"text", "name", "description", "url", "fileUri", "data", "file_id", "thoughtSignature"}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's file that names the retired models of the recordings."""
    native = [e for e in exchanges() if e["provider"] in BASES]
    file = tmp_path / "registry.toml"
    file.write_text(registry_of(native, load_registry()), encoding="utf-8")
    monkeypatch.setenv("LLM_COMMON_REGISTRY", str(file))


async def ask(exchange: Exchange, server: Replay, costs: CostTracker) -> Any:
    """Make the recorded call; its rows carry the exchange's id as their step."""
    provider, model, step = exchange["provider"], requested_model(exchange), exchange["id"]
    path = exchange["path"].removesuffix("/chat/completions").removesuffix("/embeddings")
    llm = LLMClient(
        provider,
        model=model,
        api_key="sk-secret",
        base_url=server.url + BASES.get(provider, path),
        cost_tracker=costs,
    )
    if exchange["api"] == "openai-embeddings":
        extra = {k: v for k, v in exchange["request"].items() if k not in ("input", "model")}
        texts = exchange["request"]["input"]
        return await llm.embed([texts] if isinstance(texts, str) else texts, step=step, extra=extra)
    call = call_of(exchange)
    if exchange["id"] == UNSENDABLE:
        with pytest.raises(BadRequestError):
            await llm.complete(call.messages, step="unsendable", **call.options)
        assert server.requests == []
        call.options.pop("extra")
    if not is_stream(exchange):
        return await llm.complete(call.messages, step=step, **call.options)
    async with llm.stream(call.messages, step=step, **call.options) as stream:
        deltas = [delta async for delta in stream]
    assert "".join(delta.text for delta in deltas) == stream.response.text
    return stream.response


def check_request(exchange: Exchange, sent: dict[str, Any]) -> None:
    """What was sent is what was recorded: the same body, or the same words elsewhere in it."""
    recorded, where = exchange["request"], exchange["id"]
    if exchange["api"].startswith("openai"):
        own = {"max_tokens", "max_completion_tokens", "stream"}
        assert {k: sent.get(k) for k in recorded.keys() - own} == {
            k: recorded[k] for k in recorded.keys() - own
        }, where
        return
    text = json.dumps(sent, ensure_ascii=False)
    lost = [
        word for word in spoken(recorded) if json.dumps(word, ensure_ascii=False)[1:-1] not in text
    ]
    assert bool(lost) == (where in SIMPLER), (where, lost)


def spoken(value: Any, key: str = "") -> Iterator[str]:
    """Every text, name and address in a request."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield from spoken(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from spoken(held, key)
    elif isinstance(value, str) and key in SPOKEN:
        yield value


def expected_usd(exchange: Exchange) -> Decimal:
    """What an exchange costs: what the provider said, else tokens by the listed rates."""
    total = Decimal(0)
    for bill in billed(exchange):
        if bill.cost_usd is not None:
            return bill.cost_usd
        price = price_of(exchange["provider"], bill.model)
        assert price is not None, exchange["id"]
        total += by_rates(bill.usage, price)
    if exchange["provider"] == "anthropic":
        total += searches(exchange) * Decimal("0.01")
    return total


def by_rates(usage: Usage, price: Price) -> Decimal:
    assert not any(tokens < usage.input_tokens for tokens, _ in price.above)
    cached = usage.cached_input_tokens * (
        price.input if price.cached_input is None else price.cached_input
    )
    assert usage.cache_write_1h_tokens == 0  # none was recorded
    written = usage.cache_write_tokens * (
        price.input if price.cache_write is None else price.cache_write
    )
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    thought = usage.reasoning_tokens * (
        price.output if price.reasoning is None else price.reasoning
    )
    visible = usage.output_tokens - usage.reasoning_tokens
    return fresh * price.input + cached + written + visible * price.output + thought + price.request


def check_answer(exchange: Exchange, response: Any, row: dict[str, Any]) -> None:
    (bill, *_) = billed(exchange)
    where = exchange["id"]
    assert (row["status"], row["kind"], row["over_hold"]) == ("ok", "first", False), where
    assert {name: row[name] for name in COLUMNS} == {
        name: getattr(bill.usage, name) for name in COLUMNS
    }, where
    assert row["cost_usd"] == response.cost_usd == expected_usd(exchange), where
    assert response.usage.model_copy(update={"helpers": ()}) == bill.usage, where
    if exchange["api"] == "openai-embeddings":
        assert len(response.vectors) == len(exchange["response_json"]["data"])
        return
    expected = said(exchange)
    assert response.text == expected.text, where
    calls = [(call.name, json.loads(call.arguments)) for call in response.tool_calls]
    assert calls == expected.calls, where


def check_error(exchange: Exchange, error: Exception, rows: list[dict[str, Any]]) -> None:
    expected = ERRORS[exchange["provider"], exchange["status"]]
    assert type(error) is expected, exchange["id"]
    shown = f"{error!r}"
    assert "sk-secret" not in shown
    assert {row["error_class"] for row in rows} == {expected.__name__}
    for row in rows:
        if exchange["status"] >= 400:
            assert row["cost_usd"] == 0, exchange["id"]
        else:
            assert row["cost_source"] == "estimated", exchange["id"]


@pytest.mark.parametrize("api", COUNTS)
@pytest.mark.usefixtures("registry")
async def test_every_exchange_is_in_the_ledger_as_it_was_billed(
    costs: CostTracker, ledger: Ledger, api: str
) -> None:
    outcomes: dict[str, tuple[Exchange, Any, int]] = {}
    for exchange in exchanges():
        if exchange["api"] != api:
            continue
        async with replaying(exchange) as server:
            try:
                outcome = await ask(exchange, server, costs)
            except CallError as error:
                outcome = error
        check_request(exchange, server.requests[0])
        outcomes[exchange["id"]] = (exchange, outcome, len(server.requests))
    await providers.aclose()
    rows = [row for row in await ledger() if row["step"] != "unsendable"]
    assert len(outcomes) == COUNTS[api]
    assert len(rows) == sum(sent for _, _, sent in outcomes.values())
    for where, (exchange, outcome, sent) in outcomes.items():
        mine = [row for row in rows if row["step"] == where]
        assert len(mine) == sent > 0, where
        if isinstance(outcome, CallError):
            check_error(exchange, outcome, mine)
        else:
            check_answer(exchange, outcome, *mine)
    assert await costs.get_daily_cost() == sum(row["cost_usd"] for row in rows)


def test_no_exchange_is_left_out() -> None:
    assert SIMPLER.keys() | {UNSENDABLE} <= {exchange["id"] for exchange in exchanges()}
    assert sum(COUNTS.values()) == len(exchanges()) == 334
