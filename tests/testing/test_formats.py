"""The formats against recorded answers of the real providers, and Anthropic's over the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage
from tests.support import data_dir

ASK = [{"role": "user", "content": "The river rose by two feet overnight, says the county clerk."}]
CONTENTS = [{"role": "user", "parts": [{"text": ASK[0]["content"]}]}]
TOOL = {"name": "note", "description": "", "input_schema": {"properties": {"quote": {}}}}
USAGE = Usage(
    input_tokens=1000,
    output_tokens=50,
    cached_input_tokens=300,
    cache_write_tokens=200,
)


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Every key of a JSON value, with the keys above it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{path}[]")


def events(text: str) -> list[Any]:
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if "data:" in line)
    return [json.loads(line) for line in lines if line.startswith("{")]


def recorded(api: str, *, stream: bool) -> set[str]:
    """The keys that real providers have answered with."""
    found: set[str] = set()
    for line in (data_dir("wire") / "provider_exchanges.jsonl").read_text().splitlines():
        exchange = json.loads(line)
        text = exchange.get("response_text")
        if exchange["api"] != api or exchange["status"] != 200 or bool(text) != stream:
            continue
        for body in events(text) if text else [exchange["response_json"]]:
            found.update(paths(body))
    assert found
    return found


async def post(server: ProviderServer, provider: str, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": "Bearer k", "x-api-key": "k"}
    async with httpx.AsyncClient(timeout=60) as client:
        url = server.base_url(provider) + path
        return await client.post(url, json=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(
    ("api", "where", "model"),
    [
        ("openai-chat", ("openai", "/chat/completions"), "gpt-4o"),
        ("openai-chat", ("openrouter", "/chat/completions"), "some/model"),
        ("anthropic-messages", ("anthropic", "/v1/messages"), "claude-x"),
        ("gemini-generate", ("gemini", "/models/gem:generateContent"), "gem"),
    ],
    ids=["openai", "openrouter", "anthropic", "gemini"],
)
async def test_no_key_is_invented(server, api, where, model, stream):
    server.script(Answer(text="The river rose.", tool_calls=[("note", {"n": 1})], usage=USAGE))
    asked = {"stream": stream, "stream_options": {"include_usage": True}}
    if stream and model == "gem":
        api, where = "gemini-stream", ("gemini", "/models/gem:streamGenerateContent")
    reply = await post(server, *where, model=model, messages=ASK, contents=CONTENTS, **asked)
    bodies = events(reply.text) if stream else [reply.json()]
    known = recorded(api, stream=stream)
    if model == "gem":  # every chunk is a whole answer of the same shape
        known |= recorded("gemini-generate", stream=False)
    written = {key for body in bodies for key in paths(body)}
    assert {key for key in written - known if not re.search(r"\.(input|args)\.", key)} == set()


async def test_embeddings_have_the_recorded_shape(server):
    reply = await post(server, "openai", "/embeddings", model="text-embedding-3-small", input="a b")
    assert set(paths(reply.json())) == recorded("openai-embeddings", stream=False)


async def test_anthropic_counts_cached_input_apart(server):
    server.script(Answer(text="The river rose.", usage=USAGE))
    reply = await post(server, "anthropic", "/v1/messages", model="claude-x", messages=ASK)
    assert reply.json()["usage"] == {
        "input_tokens": 500,
        "cache_creation_input_tokens": 200,
        "cache_read_input_tokens": 300,
        "output_tokens": 50,
    }
    # 500 x 3 + 200 x 3.75 + 300 x 0.3 + 50 x 15 millionths
    assert server.invoice.total_usd == Decimal("0.00309")


async def test_anthropic_calls_the_tool_that_it_must(server):
    reply = await post(
        server,
        "anthropic",
        "/v1/messages",
        model="claude-x",
        messages=ASK,
        tools=[TOOL, TOOL | {"name": "other"}],
        tool_choice={"type": "tool", "name": "note"},
    )
    [block] = reply.json()["content"]
    assert (block["type"], block["name"]) == ("tool_use", "note")
    assert block["input"]["quote"] == ASK[0]["content"]
    assert reply.json()["stop_reason"] == "tool_use"


async def test_an_anthropic_stream_adds_up(server):
    reply = await post(
        server,
        "anthropic",
        "/v1/messages",
        model="claude-x",
        system="Be short.",
        messages=ASK,
        tools=[TOOL],
        stream=True,
    )
    assert reply.headers["content-type"].startswith("text/event-stream")
    seen = events(reply.text)
    deltas = [e["delta"] for e in seen if e["type"] == "content_block_delta"]
    written = "".join(d["partial_json"] for d in deltas)
    assert json.loads(written) == {"quote": ASK[0]["content"]}
    [ended] = [e for e in seen if e["type"] == "message_delta"]
    assert ended["delta"]["stop_reason"] == "tool_use"
    assert ended["usage"]["output_tokens"] == server.invoice.lines[0].usage.output_tokens
    named = [line.removeprefix("event: ") for line in reply.text.splitlines() if "event: " in line]
    assert named == [e["type"] for e in seen]


async def test_after_a_tool_result_anthropic_gets_words(server):
    result = {"type": "tool_result", "tool_use_id": "t", "content": "The clerk has noted it down."}
    turns = [*ASK, {"role": "user", "content": [result]}]
    reply = await post(
        server, "anthropic", "/v1/messages", model="claude-x", messages=turns, tools=[TOOL]
    )
    [block] = reply.json()["content"]
    assert block["type"] == "text"


async def test_anthropic_without_usage(server):
    for stream in (False, True):
        server.script(Answer(text="The river rose.", report_usage=False))
        reply = await post(
            server, "anthropic", "/v1/messages", model="claude-x", messages=ASK, stream=stream
        )
        assert '"usage"' not in reply.text


async def gemini(server: ProviderServer, method: str = "generateContent", **body: Any) -> Any:
    reply = await post(server, "gemini", f"/models/gem:{method}", contents=CONTENTS, **body)
    return events(reply.text) if "stream" in method else reply.json()


async def test_gemini_counts_thoughts_apart(server):
    usage = Usage(input_tokens=90, output_tokens=50, cached_input_tokens=30, reasoning_tokens=20)
    server.script(Answer(text="The river rose.", usage=usage), match="gem")
    assert (await gemini(server))["usageMetadata"] == {
        "promptTokenCount": 90,
        "candidatesTokenCount": 30,
        "totalTokenCount": 140,
        "cachedContentTokenCount": 30,
        "thoughtsTokenCount": 20,
    }
    assert server.requests[0].model == "gem"


async def test_gemini_answers_schemas_and_tools(server):
    schema = {"type": "OBJECT", "properties": {"quote": {"type": "STRING"}}}
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    told = await gemini(server, generationConfig=config)
    [part] = told["candidates"][0]["content"]["parts"]
    assert json.loads(part["text"]) == {"quote": ASK[0]["content"]}

    tools = [{"function_declarations": [{"name": n, "parameters": schema} for n in ("a", "b")]}]
    forced = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["b"]}}
    called = await gemini(server, tools=tools, toolConfig=forced)
    [part] = called["candidates"][0]["content"]["parts"]
    assert part["functionCall"] == {"name": "b", "args": {"quote": ASK[0]["content"]}}


async def test_a_gemini_stream_says_what_the_whole_answer_says(server):
    whole = await gemini(server)
    chunks = await gemini(server, "streamGenerateContent")
    said = "".join(c["candidates"][0]["content"]["parts"][0]["text"] for c in chunks)
    assert said == whole["candidates"][0]["content"]["parts"][0]["text"]
    assert [c["candidates"][0].get("finishReason") for c in chunks].count("STOP") == 1
    assert chunks[-1]["usageMetadata"] == whole["usageMetadata"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("openai", "/chat/completions"),
        ("zai", "/chat/completions"),
        ("anthropic", "/v1/messages"),
        ("gemini", "/models/gem:generateContent"),
        ("serper", "/search"),
    ],
)
async def test_errors_have_a_body_and_charge_nothing(server, provider, path, status):
    server.script(Fault.status(status))
    reply = await post(server, provider, path, messages=ASK, contents=CONTENTS, q="x")
    assert reply.status_code == status
    assert "message" in reply.text
    assert server.invoice.lines == []


@pytest.mark.parametrize(
    ("provider", "path", "words"),
    [
        ("openai", "/chat/completions", "context_length_exceeded"),
        ("anthropic", "/v1/messages", "prompt is too long"),
        ("gemini", "/models/gem:generateContent", "exceeds the maximum number of tokens"),
    ],
)
async def test_too_long_an_input_is_told_as_each_provider_tells_it(server, provider, path, words):
    server.script(Fault.context_length())
    reply = await post(server, provider, path, messages=ASK, contents=CONTENTS)
    assert reply.status_code == 400
    assert words in reply.text
