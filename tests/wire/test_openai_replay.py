"""Recorded answers through the wire for OpenAI-compatible endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from llm_common.errors import (
    BadRequestError,
    BrokenResponseError,
    CallError,
    ModelNotFoundError,
    RateLimitedError,
)
from llm_common.pricing import cost_of, price_of
from llm_common.providers import ChatRequest, fault
from llm_common.providers.openai_wire import OpenAIWire
from llm_common.routing import Deployment, load_registry, plan

from .billing import billed, requested_model
from .replay import Exchange, exchanges, is_stream, replaying

ERRORS: dict[tuple[str, int], type[CallError]] = {
    ("groq", 400): BrokenResponseError,  # the model wrote a malformed tool call
    ("openai", 400): BadRequestError,
    ("openai", 404): ModelNotFoundError,
    ("groq", 404): ModelNotFoundError,
    ("openrouter", 429): RateLimitedError,
}


def recorded(*, ok: bool) -> list[Exchange]:
    return [
        exchange
        for exchange in exchanges()
        if exchange["api"] == "openai-chat"
        and not is_stream(exchange)
        and (exchange["status"] == 200) is ok
    ]


@pytest.fixture
async def wire() -> AsyncIterator[OpenAIWire]:
    wire = OpenAIWire()
    yield wire
    await wire.aclose()


def deployment_for(exchange: Exchange, url: str) -> Deployment:
    base_url = url + exchange["path"].removesuffix("/chat/completions")
    return plan(
        load_registry(),
        provider=exchange["provider"],
        model=requested_model(exchange),
        api_key="sk-secret",
        base_url=base_url,
    )[0]


def request_of(exchange: Exchange) -> ChatRequest:
    request = exchange["request"]
    return ChatRequest(
        request["messages"], max_tokens=1000, tools=tuple(request.get("tools") or ())
    )


async def test_every_recorded_answer_is_read_as_it_was_billed(wire: OpenAIWire) -> None:
    seen = 0
    for exchange in recorded(ok=True):
        body = exchange["response_json"]
        async with replaying(exchange) as server:
            deployment = deployment_for(exchange, server.url)
            reply = await wire.send(deployment, request_of(exchange), timeout_s=60)
        (bill,) = billed(exchange)
        message = body["choices"][0]["message"]
        assert server.paths == [exchange["path"]], exchange["id"]
        assert reply.usage == bill.usage, exchange["id"]
        assert reply.cost_usd == bill.cost_usd, exchange["id"]
        assert len(reply.tool_calls) == len(message.get("tool_calls") or ()), exchange["id"]
        if isinstance(message.get("content"), str):
            assert reply.text == message["content"], exchange["id"]
        assert reply.model == body["model"]
        assert fault(reply, deployment) is None, exchange["id"]
        cost = cost_of(reply.usage, price_of(deployment.provider, deployment.model.id), None)
        assert cost.usd is not None, exchange["id"]
        seen += 1
    assert seen == 132


async def test_every_recorded_error_has_its_type(wire: OpenAIWire) -> None:
    seen = 0
    for exchange in recorded(ok=False):
        async with replaying(exchange) as server:
            deployment = deployment_for(exchange, server.url)
            with pytest.raises(CallError) as caught:
                await wire.send(deployment, request_of(exchange), timeout_s=60)
        expected = ERRORS[exchange["provider"], exchange["status"]]
        error = caught.value
        assert type(error) is expected, exchange["id"]
        assert (error.status, error.billed) == (exchange["status"], False)
        assert "sk-secret" not in str(error)
        assert exchange["response_json"]["error"]["message"] not in str(error)
        retry_after = exchange["response_headers"].get("retry-after")
        assert error.retry_after_s == (float(retry_after) if retry_after else None)
        seen += 1
    assert seen == 7


async def test_openrouter_names_its_cost_only_when_asked(wire: OpenAIWire) -> None:
    exchange = next(e for e in recorded(ok=True) if e["response_json"].get("usage", {}).get("cost"))
    async with replaying(exchange) as server:
        reply = await wire.send(
            deployment_for(exchange, server.url), request_of(exchange), timeout_s=60
        )
    assert server.requests[0]["usage"] == {"include": True}
    assert reply.cost_usd == Decimal(str(exchange["response_json"]["usage"]["cost"]))


async def test_a_mistral_answer_in_parts_is_joined(wire: OpenAIWire) -> None:
    exchange = next(
        e
        for e in recorded(ok=True)
        if isinstance(e["response_json"]["choices"][0]["message"].get("content"), list)
    )
    async with replaying(exchange) as server:
        reply = await wire.send(
            deployment_for(exchange, server.url), request_of(exchange), timeout_s=60
        )
    parts = exchange["response_json"]["choices"][0]["message"]["content"]
    assert reply.text == "".join(p["text"] for p in parts if p["type"] == "text")
