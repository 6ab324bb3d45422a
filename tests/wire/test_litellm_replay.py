"""Recorded answers of Anthropic and Gemini through the litellm wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_common.errors import BadRequestError, CallError, ModelNotFoundError
from llm_common.pricing import cost_of, price_of
from llm_common.providers import ChatRequest
from llm_common.providers.litellm_wire import LiteLLMWire
from llm_common.routing import Deployment, load_registry, plan

from .billing import billed, requested_model
from .replay import Exchange, exchanges, is_stream, replaying

MESSAGES = [{"role": "user", "content": "Say hello."}]
APIS = {"anthropic-messages": "anthropic", "gemini-generate": "gemini"}
ERRORS: dict[tuple[str, int], type[CallError]] = {
    ("anthropic", 400): BadRequestError,
    ("anthropic", 404): ModelNotFoundError,
    ("gemini", 404): ModelNotFoundError,
}


def recorded(*, ok: bool) -> list[Exchange]:
    return [
        exchange
        for exchange in exchanges()
        if exchange["api"] in APIS and not is_stream(exchange) and (exchange["status"] == 200) is ok
    ]


@pytest.fixture
async def wire() -> AsyncIterator[LiteLLMWire]:
    wire = LiteLLMWire()
    yield wire
    await wire.aclose()


def deployment_for(exchange: Exchange, url: str) -> Deployment:
    provider = APIS[exchange["api"]]
    model = "claude-haiku-4.5" if provider == "anthropic" else "gemini-2.5-flash"
    base_url = url + ("/v1beta" if provider == "gemini" else "")
    return plan(
        load_registry(), provider=provider, model=model, api_key="sk-secret", base_url=base_url
    )[0]


async def test_every_recorded_answer_is_read_as_it_was_billed(wire: LiteLLMWire) -> None:
    seen = 0
    for exchange in recorded(ok=True):
        async with replaying(exchange) as server:
            deployment = deployment_for(exchange, server.url)
            reply = await wire.send(deployment, ChatRequest(MESSAGES, 1000), timeout_s=60)
        bill = billed(exchange)[0]
        assert len(server.paths) == 1
        assert reply.usage is not None
        usage = reply.usage.model_copy(update={"helpers": ()})
        assert usage == bill.usage, exchange["id"]
        price = price_of(exchange["provider"], requested_model(exchange))
        assert cost_of(usage, price).usd == cost_of(bill.usage, price).usd
        assert reply.cost_usd is None
        seen += 1
    assert seen == 143


async def test_every_recorded_error_has_its_type(wire: LiteLLMWire) -> None:
    seen = 0
    for exchange in recorded(ok=False):
        async with replaying(exchange) as server:
            deployment = deployment_for(exchange, server.url)
            with pytest.raises(CallError) as caught:
                await wire.send(deployment, ChatRequest(MESSAGES, 1000), timeout_s=60)
        assert type(caught.value) is ERRORS[exchange["provider"], exchange["status"]]
        assert caught.value.billed is False
        assert "sk-secret" not in str(caught.value)
        assert exchange["response_json"]["error"]["message"] not in str(caught.value)
        seen += 1
    assert seen == 3
