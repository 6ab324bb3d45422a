"""The client against a mock of providers that is not of our making."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel

from llm_common import CostTracker, LLMClient, providers
from llm_common.database import pool
from llm_common.errors import BrokenResponseError, ProviderTimeoutError, RateLimitedError
from llm_common.types import Usage
from tests import npm

MODELS = {
    "openai": "gpt-4o",
    "openrouter": "gpt-4o",
    "anthropic": "claude-sonnet-4.5",
    "gemini": "gemini-2.5-flash",
}
PATHS = {"openai": "/v1", "openrouter": "/api/v1", "anthropic": "", "gemini": "/v1beta"}
USED = {
    "openai": {"prompt_tokens": 100, "completion_tokens": 20},
    "openrouter": {"prompt_tokens": 100, "completion_tokens": 20, "cost": 0.0125},
    "anthropic": {"input_tokens": 100, "output_tokens": 20},
    "gemini": {"promptTokenCount": 100, "candidatesTokenCount": 20},
}
MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]
TEXT = "The county of Kern pays for all of them, and it pays from its own fund."
LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"county": {"type": "string"}}},
    },
}
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

everywhere = pytest.mark.parametrize("provider", MODELS)


class County(BaseModel):
    name: str
    beds: int


class Mock:
    """The running mock and its control interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def serve(self, *responses: dict[str, Any]) -> None:
        """Answer with each response in turn; the last one goes on.

        A response may be wrapped in a fixture of the mock's, with options or a match of its own.
        """
        self._post("/reset", {})
        fixtures = [r if "response" in r else {"response": r} for r in responses]
        for number, fixture in enumerate(fixtures[:-1]):
            fixture.setdefault("match", {"sequenceIndex": number})
        fixtures[-1].setdefault("match", {})
        self._post("/fixtures", {"fixtures": fixtures})

    def requests(self) -> list[dict[str, Any]]:
        """Return the journal of what came in."""
        with urllib.request.urlopen(f"{self.url}/__aimock/journal", timeout=60) as answer:
            return json.load(answer)

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            f"{self.url}/__aimock{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


@pytest.fixture(scope="session")
def running() -> Iterator[Mock]:
    folder = npm.installed(Path(__file__).parent)
    process = subprocess.Popen(
        ["node", "server.mjs"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Mock(process.stdout.readline().strip())
    finally:
        process.communicate(timeout=60)


@pytest.fixture
async def mock(running: Mock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mock]:
    for provider, path in PATHS.items():
        monkeypatch.setenv(f"{provider.upper()}_BASE_URL", running.url + path)
        # A key of its own: cooldowns of one test must not reach the next.
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", f"key-{uuid4()}")
    yield running
    await providers.aclose()
    await pool.close()


def client(provider: str, costs: CostTracker) -> LLMClient:
    return LLMClient(provider, model=MODELS[provider], cost_tracker=costs)


def expected_cost(provider: str) -> Decimal:
    """100 tokens in and 20 out, by the prices of November 2026 per million."""
    per_million = {"openai": (2.5, 10), "anthropic": (3, 15), "gemini": (0.3, 2.5)}
    if provider == "openrouter":
        return Decimal("0.0125")
    into, out = (Decimal(str(price)) for price in per_million[provider])
    return (100 * into + 20 * out) / 1_000_000


@everywhere
async def test_a_chat_is_answered_and_recorded(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    mock.serve({"content": TEXT, "usage": USED[provider]})
    response = await client(provider, costs).complete(MESSAGES)
    assert response.text == TEXT
    assert response.usage == Usage(input_tokens=100, output_tokens=20)
    (row,) = await ledger()
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == ("ok", 100, 20)
    assert row["cost_usd"] == response.cost_usd == expected_cost(provider)


@everywhere
async def test_a_stream_is_read_and_billed_by_its_usage(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    mock.serve({"content": TEXT, "usage": USED[provider]})
    stream = client(provider, costs).stream(MESSAGES)
    pieces = [delta.text async for delta in stream]
    assert len(pieces) > 1
    assert "".join(pieces) == stream.response.text == TEXT
    (row,) = await ledger()
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == ("ok", 100, 20)
    assert row["cost_usd"] == expected_cost(provider)


@everywhere
async def test_tools_are_called_and_their_results_answered(
    mock: Mock, costs: CostTracker, provider: str
) -> None:
    llm = client(provider, costs)
    call = {"name": "look_up", "arguments": json.dumps({"county": "Kern"})}
    mock.serve({"toolCalls": [call]}, {"content": TEXT})
    asked = await llm.complete(MESSAGES, tools=[LOOK_UP])
    (wanted,) = asked.tool_calls
    assert (wanted.name, json.loads(wanted.arguments)) == ("look_up", {"county": "Kern"})
    assert asked.finish_reason == "tool_calls"
    result = {"role": "tool", "tool_call_id": wanted.id, "content": "12 beds"}
    answer = await llm.complete([*MESSAGES, asked.message, result], tools=[LOOK_UP])
    assert answer.text == TEXT
    # The mock's journal leaves out the parts that litellm writes to Gemini in snake case.
    assert provider == "gemini" or "12 beds" in json.dumps(mock.requests()[-1]["body"])


@everywhere
async def test_an_answer_that_does_not_fit_is_asked_again(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    bad, good = json.dumps({"name": "Kern"}), json.dumps({"name": "Kern", "beds": 12})
    by_tool = provider in ("anthropic", "openrouter")

    def reply(arguments: str) -> dict[str, Any]:
        if by_tool:
            return {"toolCalls": [{"name": "County", "arguments": arguments}]}
        return {"content": arguments}

    mock.serve(reply(bad), reply(good))
    county = await client(provider, costs).chat(MESSAGES, response_model=County)
    assert county == County(name="Kern", beds=12)
    assert [row["kind"] for row in await ledger()] == ["first", "reask"]


@everywhere
async def test_429_waits_as_long_as_it_is_told(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    limited = {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429}
    mock.serve({**limited, "retryAfter": 2}, {"content": TEXT})
    before = time.monotonic()
    response = await client(provider, costs).complete(MESSAGES)
    assert time.monotonic() - before >= 2
    assert (response.text, response.attempts) == (TEXT, 2)
    assert [(row["kind"], row["error_class"]) for row in await ledger()] == [
        ("first", "RateLimitedError"),
        ("retry", None),
    ]


async def test_a_long_retry_after_is_not_waited_for(mock: Mock, costs: CostTracker) -> None:
    limited = {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429}
    mock.serve({**limited, "retryAfter": 70})
    with pytest.raises(RateLimitedError) as caught:
        await client("openai", costs).chat(MESSAGES)
    assert caught.value.retry_after_s == 70
    assert len(mock.requests()) == 1


@everywhere
async def test_503_is_tried_again(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    mock.serve({"error": {"message": "overloaded"}, "status": 503}, {"content": TEXT})
    response = await client(provider, costs).complete(MESSAGES)
    assert (response.text, response.attempts, len(mock.requests())) == (TEXT, 2, 2)
    first, second = await ledger()
    assert (first["error_class"], first["cost_usd"]) == ("ProviderUnavailableError", 0)
    assert second["status"] == "ok"


@everywhere
@pytest.mark.parametrize("chaos", ["malformedRate", "disconnectRate"])
async def test_malformed_json_and_a_lost_connection_are_estimated_and_tried_again(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str, chaos: str
) -> None:
    mock.serve({"response": {"content": TEXT}, "chaos": {chaos: 1}}, {"content": TEXT})
    response = await client(provider, costs).complete(MESSAGES)
    assert (response.text, response.attempts) == (TEXT, 2)
    first, second = await ledger()
    assert (first["error_class"], first["cost_source"]) == ("BrokenResponseError", "estimated")
    assert first["cost_usd"] > 0
    assert second["status"] == "ok"


@everywhere
async def test_a_stream_that_breaks_off_is_an_error_and_estimated(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    mock.serve({"response": {"content": TEXT * 20}, "truncateAfterChunks": 5})
    with pytest.raises(BrokenResponseError):
        async for _ in client(provider, costs).stream(MESSAGES):
            pass
    (row,) = await ledger()
    assert (row["status"], row["cost_source"]) == ("error", "estimated")


async def test_a_timeout_is_estimated_and_tried_again(
    mock: Mock, costs: CostTracker, ledger: Ledger
) -> None:
    """Everywhere at once: each attempt has the time to be sent, on a busy machine too."""
    clients = [client(provider, costs) for provider in MODELS]
    mock.serve({"content": TEXT})
    for llm in clients:
        await llm.complete(MESSAGES)  # the first call of a process takes its time to be written
    before = len(await ledger())
    mock.serve({"response": {"content": TEXT}, "chaos": {"latencyMs": 10_000}})
    calls = (llm.complete(MESSAGES, timeout_s=4) for llm in clients)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [ProviderTimeoutError] * len(MODELS)
    rows = (await ledger())[before:]
    for provider in MODELS:
        mine = [row for row in rows if row["provider"] == provider]
        assert [row["kind"] for row in mine] == ["first", "retry", "retry"]
    assert {row["cost_source"] for row in rows} == {"estimated"}


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
async def test_a_request_that_was_not_written_in_time_costs_nothing(
    mock: Mock, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    mock.serve({"content": TEXT})
    with pytest.raises(ProviderTimeoutError):
        await client(provider, costs).complete(MESSAGES, timeout_s=1e-6)
    assert mock.requests() == []
    assert {(row["status"], row["cost_usd"]) for row in await ledger()} == {("error", 0)}


async def test_vectors(mock: Mock, costs: CostTracker) -> None:
    mock.serve({"match": {"inputText": "rent cap"}, "response": {"embedding": [0.25, -0.5]}})
    response = await client("openai", costs).embed(["rent cap"], "text-embedding-3-small")
    assert response.vectors == ((0.25, -0.5),)
