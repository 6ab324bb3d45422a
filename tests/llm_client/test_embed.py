"""`LLMClient.embed` on both wires: vectors in order, one row per attempt, exact cost."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient, providers
from llm_common.errors import (
    BrokenResponseError,
    BudgetExceededError,
    EmptyResponseError,
    InvalidInputError,
    ModelNotFoundError,
)
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage
from tests.wire.replay import answer, serving

TEXTS = ["shelters in Kern County", "shelters in Kern", "fish licences"]
MODELS = {
    "openai": "text-embedding-3-small",
    "openrouter": "text-embedding-3-large",
    "mistral": "mistral-embed",
}
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


def cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return (
        sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    )


@pytest.mark.parametrize("provider", MODELS)
async def test_texts_become_vectors_and_one_row(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    llm = LLMClient(provider, cost_tracker=costs)
    found = await llm.embed(TEXTS, MODELS[provider], step="index", user="u-1", tags=["t"])
    near, far = (cosine(found.vectors[0], found.vectors[i]) for i in (1, 2))
    assert near > far
    (row,) = await ledger()
    assert (row["kind"], row["status"], row["step"]) == ("first", "ok", "index")
    assert (row["user_id"], row["tags"]) == ("u-1", ["t"])
    assert found.usage.input_tokens == row["input_tokens"] == row["tokens_used"] > 0
    assert found.cost_usd == row["cost_usd"] == fake.invoice.total_usd > 0
    assert found.operation_id == str(row["operation_id"])
    assert (found.requested_model, found.attempts) == (MODELS[provider], 1)
    asked = fake.requests[0].body
    assert asked["input"] == TEXTS
    assert asked.get("encoding_format") == ("base64" if provider == "openai" else None)


async def test_numbers_and_base64_are_the_same_vectors(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", model=MODELS["openai"], cost_tracker=costs)
    packed = await llm.embed(TEXTS)
    plain = await llm.embed(TEXTS, extra={"encoding_format": "float", "dimensions": 1536})
    assert [len(vector) for vector in plain.vectors] == [1536] * 3
    for one, other in zip(packed.vectors, plain.vectors, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


async def test_embeddings_are_retried_and_every_attempt_is_recorded(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.status(503), Fault.malformed_json(), Fault.empty())
    llm = LLMClient("openai", model=MODELS["openai"], cost_tracker=costs)
    with pytest.raises(EmptyResponseError):
        await llm.embed(TEXTS)
    rows = await ledger()
    assert [(r["kind"], r["error_class"], r["cost_source"]) for r in rows] == [
        ("first", "ProviderUnavailableError", "unbilled"),
        ("retry", "BrokenResponseError", "estimated"),
        ("retry", "EmptyResponseError", "prices"),
    ]
    assert sum(r["cost_usd"] for r in rows) >= fake.invoice.total_usd > 0


async def test_a_vector_too_few_is_an_error_and_billed(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    one = {"index": 0, "embedding": [0.5, 1]}
    body = {"data": [one], "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    fake.script(*[Answer(json=body, usage=Usage(input_tokens=7))] * 3)
    with pytest.raises(BrokenResponseError):
        await LLMClient("openai", cost_tracker=costs).embed(TEXTS, MODELS["openai"])
    assert [r["input_tokens"] for r in await ledger()] == [7, 7, 7]


async def test_a_missing_model_is_typed(fake: ProviderServer, costs: CostTracker) -> None:
    fake.script(Fault.status(404, "model_not_found"))
    with pytest.raises(ModelNotFoundError):
        await LLMClient("openai", cost_tracker=costs).embed(TEXTS, MODELS["openai"])


async def test_a_budget_that_fits_nothing_sends_nothing(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", cost_tracker=costs, budget_limit_usd="0.0000001")
    with pytest.raises(BudgetExceededError):
        await llm.embed(TEXTS, MODELS["openai"])
    assert fake.requests == []


@pytest.mark.parametrize("texts", [[], "a text", [1]])
async def test_what_is_no_list_of_texts_is_refused(costs: CostTracker, texts: Any) -> None:
    with pytest.raises(InvalidInputError, match="texts must be a list of strings"):
        await LLMClient("openai", cost_tracker=costs, api_key="k").embed(texts, MODELS["openai"])


GEMINI = {"embeddings": [{"values": [0.25, 0.5]}, {"values": [1, 0]}, {"values": [0, 1]}]}


@pytest.mark.parametrize("named", [True, False])
async def test_gemini_s_vectors_cost_what_gemini_counted(
    costs: CostTracker, ledger: Ledger, named: bool
) -> None:
    body = GEMINI | ({"usageMetadata": {"promptTokenCount": 11}} if named else {})
    async with serving(answer(body)) as server:
        llm = LLMClient("gemini", cost_tracker=costs, api_key="k", base_url=f"{server.url}/v1beta")
        found = await llm.embed(TEXTS, "gemini-embedding-001", extra={"dimensions": 2})
        await providers.aclose()
    assert found.vectors == ((0.25, 0.5), (1.0, 0.0), (0.0, 1.0))
    assert server.paths == ["/v1beta/models/gemini-embedding-001:batchEmbedContents"]
    asked = server.requests[0]["requests"]
    assert [one["content"]["parts"] for one in asked] == [[{"text": text}] for text in TEXTS]
    assert {one["outputDimensionality"] for one in asked} == {2}
    (row,) = await ledger()
    assert found.cost_usd == row["cost_usd"]
    if named:
        assert (row["input_tokens"], row["cost_usd"]) == (11, 11 * Decimal("0.15") / 10**6)
    else:
        assert (row["input_tokens"], row["cost_source"]) == (None, "estimated")


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"error": {"code": 404, "message": "no"}}, 404, ModelNotFoundError),
        ({"embeddings": [{}]}, 200, BrokenResponseError),
        ({"embeddings": []}, 200, EmptyResponseError),
        ("{", 200, BrokenResponseError),
    ],
)
async def test_what_goes_wrong_at_gemini_has_its_type(
    costs: CostTracker, body: Any, status: int, error: type[Exception]
) -> None:
    async with serving(answer(body, status)) as server:
        llm = LLMClient("gemini", cost_tracker=costs, api_key="k", base_url=f"{server.url}/v1beta")
        with pytest.raises(error):
            await llm.embed(TEXTS, "gemini-embedding-001")
        await providers.aclose()
