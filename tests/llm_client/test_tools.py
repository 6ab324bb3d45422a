"""Tools, images and quirks of models, end to end on both wires."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient, providers
from llm_common.testing import Answer, ProviderServer
from tests.wire.replay import answer, serving

ASK: list[dict[str, Any]] = [{"role": "user", "content": "Which county pays, and how much?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Find a county's share.",
        "parameters": {
            "type": "object",
            "properties": {"county": {"type": "string"}},
            "required": ["county"],
        },
    },
}
MODELS = {
    "openai": "gpt-4o",
    "groq": "gpt-oss-20b",
    "anthropic": "claude-sonnet-4.5",
    "gemini": "gemini-2.5-flash",
}
PNG = base64.b64encode(b"\x89PNG" + bytes(60)).decode()
every_wire = pytest.mark.parametrize("provider", MODELS)


@every_wire
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_tool_is_called_and_its_result_goes_back(
    fake: ProviderServer, costs: CostTracker, provider: str, streamed: bool
) -> None:
    fake.script(
        Answer(tool_calls=[("look_up", {"county": "Kern"}), ("look_up", {"county": "Inyo"})]),
        Answer(text="Kern pays 40, Inyo 2."),
    )
    llm = LLMClient(provider, model=MODELS[provider], cost_tracker=costs)
    if streamed:
        async with llm.stream(ASK, tools=[TOOL]) as stream:
            _ = [delta async for delta in stream]
        asked = stream.response
    else:
        asked = await llm.complete(ASK, tools=[TOOL], tool_choice="auto")
    assert asked.finish_reason == "tool_calls"
    assert [json.loads(call.arguments)["county"] for call in asked.tool_calls] == ["Kern", "Inyo"]
    results = [
        {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": f"share {number}"}
        for number, call in enumerate(asked.tool_calls)
    ]
    assert await llm.chat([*ASK, asked.message, *results], tools=[TOOL]) == "Kern pays 40, Inyo 2."
    sent = json.dumps(fake.requests[1].body)
    for word in ("look_up", "Kern", "Inyo", "share 0", "share 1"):
        assert word in sent
    assert await costs.get_daily_cost() == fake.invoice.total_usd > 0


@every_wire
async def test_a_tool_can_be_forced(
    fake: ProviderServer, costs: CostTracker, provider: str
) -> None:
    llm = LLMClient(provider, model=MODELS[provider], cost_tracker=costs)
    named = {"type": "function", "function": {"name": "look_up"}}
    response = await llm.complete(ASK, tools=[TOOL], tool_choice=named)
    assert [call.name for call in response.tool_calls] == ["look_up"]


@every_wire
async def test_images_go_as_data_and_are_bounded(
    fake: ProviderServer, costs: CostTracker, provider: str
) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}
    llm = LLMClient(provider, model=MODELS[provider], cost_tracker=costs)
    plain, bound = llm.estimate(ASK), llm.estimate([message])
    assert plain is not None
    assert bound is not None
    assert bound > plain
    await llm.chat([message])
    assert PNG in json.dumps(fake.requests[0].body)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_images_go_by_address(
    fake: ProviderServer, costs: CostTracker, provider: str
) -> None:
    """The provider fetches them; Gemini can't, so litellm would, and is not asked here."""
    url = "https://example.org/shelter.png"
    image = {"type": "image_url", "image_url": {"url": url}}
    await LLMClient(provider, model=MODELS[provider], cost_tracker=costs).chat(
        [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}]
    )
    assert url in json.dumps(fake.requests[0].body)


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "gpt-4o", {"temperature": 0.2, "seed": 7, "max_tokens": 50}),
        ("openai", "gpt-5-mini", {"seed": 7, "max_completion_tokens": 50}),
        ("openai", "o3", {"seed": 7, "max_completion_tokens": 50}),
        ("mistral", "mistral-medium", {"temperature": 0.2, "random_seed": 7, "max_tokens": 50}),
        ("groq", "gpt-oss-20b", {"temperature": 0.2, "seed": 7, "max_tokens": 50}),
        ("anthropic", "claude-haiku-4.5", {"temperature": 0.2, "max_tokens": 50}),
        ("anthropic", "claude-opus-4.8", {"max_tokens": 50}),
        ("anthropic", "claude-sonnet-5", {"max_tokens": 50}),
    ],
)
async def test_a_model_gets_only_what_it_takes(
    fake: ProviderServer, costs: CostTracker, provider: str, model: str, expected: dict[str, Any]
) -> None:
    llm = LLMClient(provider, model=model, cost_tracker=costs)
    await llm.chat(ASK, temperature=0.2, seed=7, max_tokens=50)
    sent = fake.requests[0].body
    names = {"temperature", "seed", "random_seed", "max_tokens", "max_completion_tokens"}
    assert {key: sent[key] for key in names & sent.keys()} == expected


async def test_gemini_gets_its_settings_and_safety(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("gemini", model="gemini-2.5-flash", cost_tracker=costs)
    await llm.chat(ASK, temperature=0.2, seed=7, max_tokens=50)
    sent = fake.requests[0].body
    config = sent["generationConfig"]
    assert (config["temperature"], config["seed"], config["max_output_tokens"]) == (0.2, 7, 50)
    assert len(sent["safetySettings"]) == 4
    assert {setting["threshold"] for setting in sent["safetySettings"]} == {"BLOCK_NONE"}


async def test_a_host_s_arguments_pass_through(fake: ProviderServer, costs: CostTracker) -> None:
    llm = LLMClient("openrouter", model="gpt-4o", cost_tracker=costs)
    await llm.chat(ASK, extra={"provider": {"order": ["azure"]}, "top_p": 0.5})
    sent = fake.requests[0].body
    assert (sent["provider"], sent["top_p"]) == ({"order": ["azure"]}, 0.5)


async def test_what_anthropic_runs_itself_is_no_call_of_the_caller(costs: CostTracker) -> None:
    """litellm lists it with the caller's tools; its searches are billed one by one."""
    body = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "stop_reason": "end_turn",
        "content": [
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
            {"type": "text", "text": "Kern."},
        ],
        "usage": {
            "input_tokens": 100,
            "output_tokens": 10,
            "server_tool_use": {"web_search_requests": 2},
        },
    }
    async with serving(answer(body)) as server:
        llm = LLMClient("anthropic", cost_tracker=costs, api_key="k", base_url=server.url)
        tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
        response = await llm.complete(ASK, "claude-sonnet-4.5", tools=[tool])
        await providers.aclose()
    assert (response.text, response.tool_calls) == ("Kern.", ())
    assert response.usage.web_searches == 2
    assert response.cost_usd == Decimal("0.00045") + 2 * Decimal("0.01")
    assert server.requests[0]["tools"] == [tool]
