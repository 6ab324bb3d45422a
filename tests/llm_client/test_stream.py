"""`LLMClient.stream` on both wires: deltas, the response, and a row whatever happens."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.errors import (
    BrokenResponseError,
    BudgetExceededError,
    EmptyResponseError,
    InvalidInputError,
    ProviderTimeoutError,
    RefusedError,
)
from llm_common.llm_client import ChatStream
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Delta, LLMResponse, ToolCall, Usage
from tests import children

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]
MODELS = {
    "openai": "gpt-4o",
    "openrouter": "gpt-4o",
    "anthropic": "claude-sonnet-4.5",
    "gemini": "gemini-2.5-flash",
}
TEXT = "The county of Kern pays for all of them, and it pays from its own fund."
LONG = TEXT * 3000  # its end has not arrived when its beginning is read
# Chunks of the server until the first that holds text.
FIRST_TEXT = {"openai": 3, "anthropic": 4, "gemini": 1}
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

both_wires = pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])


def client(provider: str, costs: CostTracker) -> LLMClient:
    return LLMClient(provider, model=MODELS[provider], cost_tracker=costs)


async def read(stream: ChatStream) -> list[Delta]:
    return [delta async for delta in stream]


@pytest.mark.parametrize("provider", MODELS)
async def test_a_stream_is_read_and_recorded_as_an_answer(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    used = Usage(input_tokens=1000, output_tokens=40, cached_input_tokens=300)
    fake.script(Answer(text=TEXT, usage=used))
    stream = client(provider, costs).stream(MESSAGES, step="answer")
    deltas = await read(stream)
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == stream.response.text == TEXT
    (row,) = await ledger()
    response = stream.response
    assert (row["kind"], row["status"], row["step"]) == ("first", "ok", "answer")
    assert (row["input_tokens"], row["output_tokens"]) == (1000, 40)
    assert row["cached_input_tokens"] == 300
    assert response.cost_usd == row["cost_usd"] == fake.invoice.total_usd
    assert (response.usage, response.finish_reason, response.attempts) == (used, "stop", 1)
    assert response.operation_id == str(row["operation_id"])


@both_wires
async def test_tool_calls_come_in_pieces_and_whole(
    fake: ProviderServer, costs: CostTracker, provider: str
) -> None:
    fake.script(Answer(tool_calls=[("look", {"city": "Bakersfield", "deep": True})]))
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    stream = client(provider, costs).stream(MESSAGES, tools=[tool])
    pieces = [delta.tool_call for delta in await read(stream)]
    assert all(pieces)
    (call,) = stream.response.tool_calls
    assert isinstance(call, ToolCall)
    assert call.name == "look"
    assert call.arguments == "".join(piece.arguments for piece in pieces if piece)
    assert "Bakersfield" in call.arguments
    assert (stream.response.finish_reason, stream.response.text) == ("tool_calls", "")
    assert stream.response.message["tool_calls"][0]["function"]["name"] == "look"


@both_wires
async def test_a_stream_left_early_is_recorded_once(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(Answer(text=LONG, usage=Usage(input_tokens=100, output_tokens=4000)))
    async with client(provider, costs).stream(MESSAGES) as stream:
        async for _ in stream:
            break
    (row,) = await ledger()
    assert (row["status"], row["cost_source"], row["attempt_no"]) == ("cancelled", "estimated", 1)
    assert row["cost_usd"] >= fake.invoice.total_usd > 0
    assert len(fake.requests) == 1
    await stream.aclose()  # harmless
    assert await read(stream) == []
    with pytest.raises(InvalidInputError, match="read to its end"):
        _ = stream.response
    assert len(await ledger()) == 1


async def abandon(llm: LLMClient) -> None:
    async for _ in llm.stream(MESSAGES):
        return


@both_wires
async def test_an_abandoned_stream_is_recorded_without_a_word(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(Answer(text=LONG, usage=Usage(input_tokens=100, output_tokens=4000)))
    gc.disable()  # the reference count alone does it
    try:
        await abandon(client(provider, costs))

        async def recorded() -> bool:
            return bool(await ledger())

        await children.until(recorded)
        (row,) = await ledger()
    finally:
        gc.enable()
    assert (row["status"], row["cost_source"]) == ("cancelled", "estimated")


@both_wires
async def test_a_cancelled_stream_is_recorded(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.latency_s = 60
    task = asyncio.create_task(read(client(provider, costs).stream(MESSAGES)))
    while not fake.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (row,) = await ledger()
    assert (row["status"], row["error_class"]) == ("cancelled", "CancelledError")
    assert row["cost_usd"] > 0


async def test_usage_that_has_come_is_final_though_the_stream_is_left(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    """Gemini's last chunk holds text and totals: whoever leaves at that text has both."""
    fake.script(Answer(text="Kern.", usage=Usage(input_tokens=90, output_tokens=2)))
    await abandon(client("gemini", costs))
    while not (rows := await ledger()):
        await asyncio.sleep(0.01)
    (row,) = rows
    assert (row["status"], row["cost_source"], row["input_tokens"]) == ("cancelled", "prices", 90)
    assert row["cost_usd"] == fake.invoice.total_usd


@both_wires
async def test_a_broken_stream_is_an_estimate_and_not_asked_again(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(Fault.disconnect(after_chunks=FIRST_TEXT[provider]))
    stream = client(provider, costs).stream(MESSAGES)
    with pytest.raises(BrokenResponseError):
        await read(stream)
    (row,) = await ledger()
    assert (row["status"], row["cost_source"]) == ("error", "estimated")
    assert row["error_class"] == "BrokenResponseError"
    assert len(fake.requests) == 1
    assert row["cost_usd"] >= fake.invoice.total_usd > 0


@both_wires
async def test_until_the_first_delta_it_is_tried_again(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(Fault.rate_limit(0.05), Fault.status(503), Answer(text=TEXT))
    stream = client(provider, costs).stream(MESSAGES)
    assert "".join(delta.text for delta in await read(stream)) == TEXT
    rows = await ledger()
    assert [(r["kind"], r["error_class"]) for r in rows] == [
        ("first", "RateLimitedError"),
        ("retry", "ProviderUnavailableError"),
        ("retry", None),
    ]
    assert stream.response.attempts == len(fake.requests) == 3
    assert await costs.get_daily_cost() == fake.invoice.total_usd == stream.response.cost_usd


@both_wires
async def test_an_empty_stream_is_billed_and_tried_again(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(Fault.empty(), Answer(text=TEXT))
    stream = client(provider, costs).stream(MESSAGES)
    await read(stream)
    assert [r["error_class"] for r in await ledger()] == [EmptyResponseError.__name__, None]
    assert await costs.get_daily_cost() == fake.invoice.total_usd == stream.response.cost_usd


async def test_silence_ends_a_stream(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    """On both wires at once: each attempt has the time to be sent, on a busy machine too."""
    providers = ("openai", "anthropic", "gemini")
    fake.script(*[Answer(text=TEXT, latency_s=60)] * 9)
    streams = [client(provider, costs).stream(MESSAGES, timeout_s=3) for provider in providers]
    ends = await asyncio.gather(*map(read, streams), return_exceptions=True)
    assert [type(end) for end in ends] == [ProviderTimeoutError] * 3
    rows = await ledger()
    assert Counter((r["provider"], r["cost_source"]) for r in rows) == dict.fromkeys(
        [(provider, "estimated") for provider in providers], 3
    )
    assert Counter(r.provider for r in fake.requests) == dict.fromkeys(providers, 3)


async def test_a_refusal_in_a_stream_is_an_error_and_billed(
    fake: ProviderServer, costs: CostTracker
) -> None:
    fake.script(Answer(refusal="I'd rather not.", text=""))
    with pytest.raises(RefusedError):
        await read(client("openai", costs).stream(MESSAGES))
    assert await costs.get_daily_cost() == fake.invoice.total_usd > 0


async def test_a_refused_stream_sends_nothing(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd="0.000001")
    with pytest.raises(BudgetExceededError):
        await read(llm.stream(MESSAGES))
    with pytest.raises(InvalidInputError, match="not empty"):
        llm.stream([])
    llm.stream(MESSAGES)  # never read: never reserved
    assert (fake.requests, await ledger()) == ([], [])


async def test_usage_is_asked_for_whatever_the_caller_says(
    fake: ProviderServer, costs: CostTracker
) -> None:
    options = {"include_usage": False, "include_obfuscation": False}
    stream = client("openai", costs).stream(MESSAGES, extra={"stream_options": options})
    await read(stream)
    sent = fake.requests[0].body
    assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert sent["stream"] is True


async def test_a_stream_that_names_no_usage_is_an_estimate(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Answer(text=TEXT, report_usage=False))
    stream = client("openai", costs).stream(MESSAGES)
    await read(stream)
    (row,) = await ledger()
    assert (row["status"], row["cost_source"]) == ("ok", "estimated")
    assert isinstance(stream.response, LLMResponse)
    assert stream.response.cost_usd == row["cost_usd"] > Decimal(0)


@both_wires
async def test_a_stream_with_a_broken_chunk_is_paid_for_and_recorded(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(*[Fault.malformed_json()] * 3)
    with pytest.raises(BrokenResponseError):
        await read(client(provider, costs).stream([{"role": "user", "content": "Hi"}]))
    rows = await ledger()
    assert {row["cost_source"] for row in rows} == {"estimated"}
    assert len(rows) == len(fake.invoice.lines)
