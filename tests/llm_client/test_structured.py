"""`response_model` with unions and nested models, in every mode that a provider needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llm_common import CostTracker, LLMClient, providers
from llm_common.routing import load_registry
from llm_common.testing import Answer, ProviderServer
from tests.wire.asking import call_of, registry_of
from tests.wire.billing import requested_model
from tests.wire.replay import exchanges, replaying

ASK = [{"role": "user", "content": "Who pays for the shelters?"}]
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


class County(BaseModel):
    kind: Literal["county"]
    name: str


class Fund(BaseModel):
    kind: Literal["fund"]
    number: int
    trustees: list[County] = []


class Share(BaseModel):
    payer: Annotated[County | Fund, Field(discriminator="kind")]
    part: float | None = None
    note: str | int = ""


class Plan(BaseModel):
    title: str
    shares: list[Share]
    by_year: dict[str, Share] = {}


PLAN = Plan(
    title="Shelters",
    shares=[
        Share(payer=County(kind="county", name="Kern"), part=0.4, note=3),
        Share(payer=Fund(kind="fund", number=7, trustees=[County(kind="county", name="Inyo")])),
    ],
)
MODELS = {
    "openai": "gpt-4o",  # json_schema
    "gemini": "gemini-2.5-flash",  # json_schema, translated
    "openrouter": "gpt-4o",  # tools
    "anthropic": "claude-sonnet-4.5",  # tools, translated
}


@pytest.mark.parametrize("provider", MODELS)
async def test_unions_and_nested_models_come_back_as_they_are(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    wrong = {**PLAN.model_dump(), "shares": [{"payer": {"kind": "state", "name": "Ohio"}}]}
    fake.script(Answer(json=wrong), Answer(json=PLAN.model_dump()))
    llm = LLMClient(provider, model=MODELS[provider], cost_tracker=costs)
    response = await llm.complete(ASK, response_model=Plan)
    assert response.parsed == PLAN
    assert type(response.parsed) is Plan
    assert type(response.parsed.shares[1].payer) is Fund
    assert (response.attempts, [r["kind"] for r in await ledger()]) == (2, ["first", "reask"])
    assert await costs.get_daily_cost() == fake.invoice.total_usd == response.cost_usd


@pytest.mark.parametrize("structured", ["json_schema", "tools", "json"])
async def test_every_mode_asks_in_its_own_way(
    fake: ProviderServer,
    costs: CostTracker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    structured: str,
) -> None:
    file = tmp_path / "registry.toml"
    file.write_text(f'[providers.openai]\nstructured = "{structured}"', encoding="utf-8")
    monkeypatch.setenv("LLM_COMMON_REGISTRY", str(file))
    fake.script(Answer(json=PLAN.model_dump()))
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    assert await llm.chat(ASK, response_model=Plan) == PLAN
    sent = fake.requests[0].body
    form = (sent.get("response_format") or {}).get("type")
    assert form == {"json_schema": "json_schema", "json": "json_object"}.get(structured)
    assert bool(sent.get("tools")) == (structured == "tools")


async def test_json_in_a_fence_is_read(fake: ProviderServer, costs: CostTracker) -> None:
    fake.script(Answer(text=f"```json\n{PLAN.model_dump_json()}\n```"))
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    assert await llm.chat(ASK, response_model=Plan) == PLAN


class Cat(BaseModel):
    pet_type: Literal["cat"] = "cat"
    meow_volume: int


class Dog(BaseModel):
    pet_type: Literal["dog"] = "dog"
    bark_volume: int


class Pets(BaseModel):
    pet: Cat | Dog = Field(discriminator="pet_type")


class City(BaseModel):
    city: str
    country: str


class Language(BaseModel):
    country: str
    language: str


class OneCity(BaseModel):
    kind: Literal["CityLocation"]
    data: City


class OneLanguage(BaseModel):
    kind: Literal["CountryLanguage"]
    data: Language


class Either(BaseModel):
    result: OneCity | OneLanguage


MEXICO = City(city="Mexico City", country="Mexico")
RECORDED: dict[str, tuple[str, BaseModel]] = {
    "gemini/test_google/test_google_discriminated_union_native_output_gemini_2_0#0": (
        "json_schema",
        Pets(pet=Cat(meow_volume=5)),
    ),
    "openai/test_openai/test_openai_native_output_multiple#1": (
        "json_schema",
        Either(result=OneCity(kind="CityLocation", data=MEXICO)),
    ),
    "openai/test_openai/test_openai_prompted_output_multiple#1": (
        "json",
        Either(result=OneCity(kind="CityLocation", data=MEXICO)),
    ),
    "groq/test_groq/test_groq_native_output#0": ("json_schema", MEXICO),
}


@pytest.mark.parametrize("recorded", RECORDED)
async def test_recorded_answers_to_schemas_are_parsed(
    costs: CostTracker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorded: str
) -> None:
    (exchange,) = [each for each in exchanges() if each["id"] == recorded]
    provider, (structured, expected) = exchange["provider"], RECORDED[recorded]
    file = tmp_path / "registry.toml"
    models = registry_of([exchange], load_registry()) if provider == "gemini" else ""
    file.write_text(f'[providers.{provider}]\nstructured = "{structured}"\n{models}', "utf-8")
    monkeypatch.setenv("LLM_COMMON_REGISTRY", str(file))
    async with replaying(exchange) as server:
        suffix = "/v1beta" if provider == "gemini" else ""
        llm = LLMClient(provider, cost_tracker=costs, api_key="k", base_url=f"{server.url}{suffix}")
        messages, model = call_of(exchange).messages, requested_model(exchange)
        response = await llm.complete(messages, model, type(expected))
        await providers.aclose()
    assert response.parsed == expected
    assert (response.attempts, len(server.requests)) == (1, 1)


async def test_a_conversation_with_tools_and_images_goes_out_as_it_is(
    fake: ProviderServer, costs: CostTracker
) -> None:
    """instructor would make the missing content of a tool call an empty list."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a shelter"},
    ]
    fake.script(Answer(json=PLAN.model_dump()))
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(messages, response_model=Plan)
    first, second, third = fake.requests[0].body["messages"]
    assert (first, third) == (messages[0], messages[2])
    assert second == {"content": None, **messages[1]}
