"""Streams in the documented formats of providers, broken in the ways that streams break."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from llm_common import providers
from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)
from llm_common.providers import ChatRequest, Reply, Transcript, deltas_of
from llm_common.providers.sse import Splitter
from llm_common.routing import Deployment, load_registry, plan
from llm_common.types import Delta, ToolCallDelta, Usage
from tests.wire.replay import answer, serving, stream

REQUEST = ChatRequest([{"role": "user", "content": "Which county pays?"}], max_tokens=50, seed=7)
MODELS = {
    "openai": "gpt-4o",
    "mistral": "mistral-medium",
    "deepseek": "deepseek-reasoner",
    "groq": "gpt-oss-20b",
    "zai": "glm-4.7",
    "openrouter": "claude-sonnet-4.5",
    "anthropic": "claude-sonnet-4.5",
    "gemini": "gemini-2.5-flash",
}


@pytest.fixture(autouse=True)
async def _close() -> AsyncIterator[None]:
    yield
    await providers.aclose()


def deployment(provider: str, url: str) -> Deployment:
    return plan(
        load_registry(), provider=provider, model=MODELS[provider], api_key="k", base_url=url
    )[0]


async def read(
    provider: str, url: str, *, timeout_s: float = 20, deltas: list[Delta] | None = None
) -> Reply:
    place = deployment(provider, url)
    transcript = Transcript(place)
    async for delta in deltas_of(place, REQUEST, transcript, timeout_s):
        if deltas is not None:
            deltas.append(delta)
    return transcript.reply()


def sse(*events: Any, done: bool = True) -> str:
    lines = [e if isinstance(e, str) else f"data: {json.dumps(e)}\n\n" for e in events]
    return "".join([*lines, "data: [DONE]\n\n" if done else ""])


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"delta": delta, "finish_reason": finish}]}


async def fails(provider: str, respond: Any, **options: Any) -> tuple[CallError, int]:
    async with serving(respond) as server:
        with pytest.raises(CallError) as caught:
            await read(provider, server.url, **options)
    return caught.value, len(server.requests)


# Documented formats of providers whose streams were not recorded.


async def test_mistral_counts_unasked_and_thinks_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    used = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    text = sse(
        chunk(role="assistant", content=[thinking]),
        chunk(content=[{"type": "text", "text": "Kern "}]),
        chunk(content="County."),
        {**chunk("stop", content=""), "usage": used},
    )
    deltas: list[Delta] = []
    async with serving(stream(text, piece=11)) as server:
        reply = await read("mistral", server.url, deltas=deltas)
    assert deltas == [Delta(reasoning="Hm."), Delta(text="Kern "), Delta(text="County.")]
    assert (reply.text, reply.usage) == ("Kern County.", Usage(input_tokens=9, output_tokens=4))
    assert "stream_options" not in server.requests[0]
    assert server.requests[0]["random_seed"] == 7


async def test_mistral_calls_tools_whole_and_without_an_index() -> None:
    calls = [
        {"id": f"call{i}", "function": {"name": "look", "arguments": f'{{"n": {i}}}'}}
        for i in range(2)
    ]
    text = sse(chunk("tool_calls", content="", tool_calls=calls))
    async with serving(stream(text)) as server:
        reply = await read("mistral", server.url)
    assert [(c.id, c.arguments) for c in reply.tool_calls] == [
        ("call0", '{"n": 0}'),
        ("call1", '{"n": 1}'),
    ]


async def test_deepseek_keeps_alive_reasons_and_counts_its_cache() -> None:
    used = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_cache_hit_tokens": 64,
        "prompt_cache_miss_tokens": 36,
        "completion_tokens_details": {"reasoning_tokens": 15},
    }
    text = sse(
        ": keep-alive\n\n",
        chunk(role="assistant", content=None, reasoning_content="Let me "),
        chunk(content=None, reasoning_content="see."),
        chunk(content="Kern."),
        chunk("stop", content=""),
        {"id": "c1", "model": "m", "choices": [], "usage": used},
    )
    deltas: list[Delta] = []
    async with serving(stream(text, piece=3)) as server:
        reply = await read("deepseek", server.url, deltas=deltas)
    assert [delta.reasoning for delta in deltas] == ["Let me ", "see.", ""]
    assert reply.message["reasoning_content"] == "Let me see."
    assert reply.usage == Usage(
        input_tokens=100, output_tokens=20, cached_input_tokens=64, reasoning_tokens=15
    )
    assert server.requests[0]["stream_options"] == {"include_usage": True}


# Errors in each provider's own words.

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
QUOTA = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {"@type": "type.googleapis.com/google.rpc.Help"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17.5s"},
        ],
    }
}
BAD_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    }
}
LOW_CREDIT = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "Your credit balance is too low to access the Anthropic API.",
    },
}
RATE = {"type": "error", "error": {"type": "rate_limit_error", "message": "…"}}
UNKNOWN = {"error": {"code": "1211", "message": "model does not exist"}}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("provider", "status", "body", "headers", "expected", "wait_s"),
    [
        ("anthropic", 429, RATE, {"retry-after": "12"}, RateLimitedError, 12.0),
        ("anthropic", 529, OVERLOADED, {}, ProviderUnavailableError, None),
        ("anthropic", 400, LOW_CREDIT, {}, QuotaExhaustedError, None),
        ("gemini", 429, QUOTA, {}, RateLimitedError, 17.5),
        ("gemini", 400, BAD_KEY, {}, AuthenticationError, None),
        ("gemini", 503, {"error": {"code": 503}}, {}, ProviderUnavailableError, None),
        ("mistral", 429, {"message": "Requests rate limit exceeded"}, {}, RateLimitedError, None),
        ("mistral", 422, {"object": "error", "message": {"detail": []}}, {}, BadRequestError, None),
        ("deepseek", 402, {"error": {"message": "…"}}, {}, QuotaExhaustedError, None),
    ],
)
async def test_errors_have_their_type_and_delay(
    provider: str,
    status: int,
    body: Any,
    headers: dict[str, str],
    expected: type[CallError],
    wait_s: float | None,
    streamed: bool,
) -> None:
    async with serving(answer(body, status, headers)) as server:
        with pytest.raises(CallError) as caught:
            if streamed:
                await read(provider, server.url)
            else:
                place = deployment(provider, server.url)
                await providers.provider_for(place).send(place, REQUEST, timeout_s=20)
    error = caught.value
    assert (type(error), error.retry_after_s) == (expected, wait_s)
    assert (error.status, error.billed, len(server.requests)) == (status, False, 1)


async def test_an_error_with_http_200_is_no_stream() -> None:
    error, _ = await fails("zai", answer({"error": {"code": "1113", "message": "…"}}))
    assert (type(error), error.billed) == (QuotaExhaustedError, False)


async def test_an_error_among_the_chunks_may_have_been_billed() -> None:
    broken = {"error": {"code": 502, "message": "upstream"}, "choices": []}
    error, _ = await fails("openrouter", stream(sse(chunk(content="Kern"), broken)))
    assert (type(error), error.billed) == (ProviderUnavailableError, None)
    first, _ = await fails("openrouter", stream(sse(broken)))
    assert (type(first), first.billed) == (ProviderUnavailableError, False)


ANTHROPIC_START = [
    {
        "type": "message_start",
        "message": {"id": "m", "model": "c", "role": "assistant", "usage": {"input_tokens": 9}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Kern"}},
]


async def test_anthropic_breaks_off_with_an_error_event() -> None:
    error, sent = await fails("anthropic", stream(sse(*ANTHROPIC_START, OVERLOADED, done=False)))
    assert isinstance(error, ProviderUnavailableError | BrokenResponseError)
    assert (error.billed, sent) == (None, 1)


# Streams that end before they are finished.


@pytest.mark.parametrize(
    ("provider", "text"),
    [
        ("openai", sse(chunk(content="Kern"), done=False)),
        ("openai", sse(chunk(content="Kern"))),
        ("openai", sse()),
        ("openai", "data: {\n\n"),
        ("openai", "<html>"),
        ("anthropic", sse(*ANTHROPIC_START, done=False)),
        ("gemini", sse({"candidates": [{"content": {"parts": [{"text": "Kern"}]}}]}, done=False)),
    ],
)
async def test_what_only_stops_is_broken(provider: str, text: str) -> None:
    error, sent = await fails(provider, stream(text))
    assert (type(error), error.billed, sent) == (BrokenResponseError, None, 1)


async def test_a_stream_needs_no_last_word() -> None:
    """Neither [DONE] nor the blank line after the last event: the finish reason says it all."""
    text = sse(chunk(content="Kern"), chunk("stop"), done=False).rstrip()
    async with serving(stream(text)) as server:
        assert (await read("openai", server.url)).text == "Kern"


async def test_a_server_that_can_t_stream_is_read_whole() -> None:
    body = {"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": "Kern"}}]}
    deltas: list[Delta] = []
    async with serving(answer(body)) as server:
        assert (await read("openai", server.url, deltas=deltas)).text == "Kern"
    assert deltas == [Delta(text="Kern")]


def hesitating(*events: str, pause_s: float, keep_alive: bool = False) -> Any:
    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for event in events:
                await response.write(event.encode())
                for _ in range(20):
                    await asyncio.sleep(pause_s / 20)
                    if keep_alive:
                        await response.write(b": PROCESSING\n\n")
        except ConnectionError:  # the reader has gone
            pass
        return response

    return respond


async def test_between_deltas_only_so_much_time_may_pass() -> None:
    """All at once: a busy machine has the time to read the first delta."""

    async def hesitates(provider: str, keep_alive: bool) -> None:
        first = sse(chunk(content="Kern"), done=False)
        if provider == "anthropic":
            first = sse(*ANTHROPIC_START, done=False)
        deltas: list[Delta] = []
        respond = hesitating(first, "", pause_s=24, keep_alive=keep_alive)
        error, sent = await fails(provider, respond, timeout_s=4, deltas=deltas)
        assert (type(error), error.billed, sent) == (ProviderTimeoutError, None, 1)
        assert deltas == [Delta(text="Kern")]

    cases = itertools.product(("openai", "anthropic"), (False, True))
    await asyncio.gather(*(hesitates(*case) for case in cases))


async def test_a_long_stream_may_last_longer_than_the_deadline() -> None:
    events = [sse(chunk(content=f"{i} "), done=False) for i in range(6)]
    respond = hesitating(*events, sse(chunk("stop")), pause_s=0.8)
    async with serving(respond) as server:
        reply = await read("openai", server.url, timeout_s=4)
    assert reply.text == "0 1 2 3 4 5 "


# Events and transcripts by themselves.


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")), max_size=5),
    st.data(),
)
def test_events_survive_any_cut(texts: list[str], data: st.DataObject) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    raw = "".join(f"event: x{end}data: {text}{end}{end}: note{end}{end}" for text in texts).encode()
    splitter, found, position = Splitter(), [], 0
    while position < len(raw):
        size = data.draw(st.integers(1, 9))
        found += splitter.feed(raw[position : position + size])
        position += size
    assert [event.decode() for event in found] == texts


def test_lines_of_one_event_are_joined() -> None:
    assert Splitter().feed(b'data: {"a":\ndata: 1}\n\n') == [b'{"a":\n1}']


def piece(**function: Any) -> dict[str, Any]:
    return {"function": function}


def test_tool_calls_are_put_together_in_order() -> None:
    transcript = Transcript(deployment("openai", "http://x"))
    first = [{"index": 0, "id": "a", **piece(name="look", arguments="")}]
    second = [{"index": 1, "id": "b", **piece(name="find", arguments='{"x"')}]
    deltas = transcript.add(chunk(tool_calls=first))
    assert deltas == [Delta(tool_call=ToolCallDelta(0, "a", "look", ""))]
    for calls in (
        [{"index": 0, **piece(arguments='{"n": ')}],
        second,
        [{"index": 0, **piece(arguments="1}")}, {"index": 1, **piece(arguments=": 2}")}],
    ):
        transcript.add(chunk(tool_calls=calls))
    transcript.add(chunk("tool_calls"))
    assert [(c.id, c.name, c.arguments) for c in transcript.reply().tool_calls] == [
        ("a", "look", '{"n": 1}'),
        ("b", "find", '{"x": 2}'),
    ]


def test_calls_that_all_bear_the_number_0_are_told_apart() -> None:
    transcript = Transcript(deployment("openai", "http://x"))
    for name in ("a", "b"):
        call = {"index": 0, "id": name, **piece(name=name, arguments="{}")}
        transcript.add(chunk(tool_calls=[call]))
    transcript.add(chunk("tool_calls"))
    assert [call.id for call in transcript.reply().tool_calls] == ["a", "b"]


def test_thinking_goes_back_in_whole_blocks() -> None:
    """Anthropic refuses a turn whose thinking lost its signature."""
    transcript = Transcript(deployment("anthropic", "http://x"))
    for part in (
        {"type": "thinking", "thinking": "Let me ", "signature": None},
        {"type": "thinking", "thinking": "see.", "signature": None},
        {"type": "thinking", "thinking": "", "signature": "s1"},
        {"type": "thinking", "thinking": "More.", "signature": None},
    ):
        transcript.add(chunk(thinking_blocks=[part]))
    transcript.add(chunk("stop", content="Kern."))
    assert transcript.reply().message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "s1"},
        {"type": "thinking", "thinking": "More.", "signature": None},
    ]


def test_a_refusal_in_pieces_is_whole_at_the_end() -> None:
    transcript = Transcript(deployment("openai", "http://x"))
    transcript.add(chunk(refusal="I'd "))
    transcript.add(chunk("stop", refusal="rather not."))
    assert transcript.reply().refusal == "I'd rather not."
