"""`LLMClient` against the provider server and a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from llm_common import CostTracker, LLMClient
from llm_common.context import labels
from llm_common.database import Database
from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    EmptyResponseError,
    InvalidInputError,
    MissingKeyError,
    ProviderTimeoutError,
    RateLimitedError,
    RefusedError,
    ResponseValidationError,
    UnknownModelError,
)
from llm_common.prompts import Prompt
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]


class Bill(BaseModel):
    title: str
    sections: int = Field(gt=3)


Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


async def agree(costs: CostTracker, fake: ProviderServer) -> Decimal:
    """The ledger's sum, which must be the server's invoice."""
    total = await costs.get_daily_cost()
    assert total == fake.invoice.total_usd
    assert total.unpriced == 0
    return total


async def test_chat_returns_text_and_leaves_one_row(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(
        Answer(text="The county of Kern.", usage=Usage(input_tokens=1000, output_tokens=10))
    )
    llm = LLMClient(provider="openrouter", cost_tracker=costs)
    text = await llm.chat(MESSAGES, model="gpt-4o", step="generate", user="u-1", tags=["a", "b"])
    assert text == "The county of Kern."
    (row,) = await ledger()
    assert row["cost_usd"] == Decimal("0.0026")
    expected = {
        "kind": "first",
        "status": "ok",
        "provider": "openrouter",
        "requested_model": "gpt-4o",
        "step": "generate",
        "user_id": "u-1",
        "tags": ["a", "b"],
        "attempt_no": 1,
        "input_tokens": 1000,
        "output_tokens": 10,
        "tokens_used": 1010,
        "project": "test",
        "key_alias": "OPENROUTER_API_KEY",
        "over_hold": False,
    }
    assert {k: row[k] for k in expected} == expected
    assert await agree(costs, fake) == Decimal("0.0026")


async def test_complete_says_everything_about_the_answer(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    prompt = Prompt("greeting", "3", "Say hello")
    llm = LLMClient(provider="openai", model="gpt-4o-mini", cost_tracker=costs)
    response = await llm.complete(MESSAGES, prompt=prompt, max_tokens=50)
    (row,) = await ledger()
    assert response.cost_usd == row["cost_usd"] > 0
    assert (response.requested_model, response.provider) == ("gpt-4o-mini", "openai")
    assert response.deployment == "openai/gpt-4o-mini#1"
    assert response.attempts == 1
    assert response.operation_id == str(row["operation_id"])
    assert (response.prompt_id, response.prompt_version) == ("greeting", "3")
    assert row["prompt_hash"] == response.prompt_hash == prompt.hash
    assert response.usage.total_tokens == row["tokens_used"]
    await agree(costs, fake)


async def test_labels_flow_by_context(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    with labels(project="other", user="u-9", arm="new", step="s"):
        await llm.chat(MESSAGES)
    (row,) = await ledger()
    assert (row["project"], row["user_id"], row["arm"], row["step"]) == ("other", "u-9", "new", "s")


@pytest.mark.parametrize("provider", ["openai", "openrouter", "anthropic"])
async def test_structured_output_is_validated_and_asked_again(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, provider: str
) -> None:
    fake.script(
        Answer(json={"title": "Shelters", "sections": 1}),
        Answer(json={"title": "Shelters", "sections": 7}),
    )
    model = "claude-sonnet-4.5" if provider != "openai" else "gpt-4o"
    llm = LLMClient(provider, cost_tracker=costs)
    bill = await llm.chat(MESSAGES, model=model, response_model=Bill)
    assert bill == Bill(title="Shelters", sections=7)
    rows = await ledger()
    assert [(r["kind"], r["attempt_no"], r["status"]) for r in rows] == [
        ("first", 1, "ok"),
        ("reask", 2, "ok"),
    ]
    assert len({r["operation_id"] for r in rows}) == 1
    await agree(costs, fake)


async def test_an_answer_that_never_fits(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(*[Answer(json={"title": 1})] * 3)
    llm = LLMClient("openai", cost_tracker=costs)
    with pytest.raises(ResponseValidationError, match="no answer fitted Bill, asked up to 3 times"):
        await llm.chat(MESSAGES, model="gpt-4o", response_model=Bill)
    assert [r["kind"] for r in await ledger()] == ["first", "reask", "reask"]
    await agree(costs, fake)


async def test_fallback_goes_to_the_next_model(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(*[Fault.status(404, "model_not_found")], match="gpt-4o-mini")
    llm = LLMClient("openai", cost_tracker=costs)
    response = await llm.chat_with_fallback(MESSAGES, models=["gpt-4o-mini", "gpt-4o"])
    assert response
    rows = await ledger()
    assert [(r["kind"], r["status"], r["error_class"]) for r in rows] == [
        ("first", "error", "ModelNotFoundError"),
        ("fallback", "ok", None),
    ]
    assert rows[0]["cost_usd"] == 0
    await agree(costs, fake)


async def test_trouble_that_passes_is_retried(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.rate_limit(0.2), Fault.status(503))
    assert await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    rows = await ledger()
    assert [(r["kind"], r["error_class"]) for r in rows] == [
        ("first", "RateLimitedError"),
        ("retry", "ProviderUnavailableError"),
        ("retry", None),
    ]
    await agree(costs, fake)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(401), AuthenticationError),
        (Fault.status(400), BadRequestError),
        (Fault.rate_limit(60), RateLimitedError),
    ],
)
async def test_what_a_retry_can_not_help_is_sent_once(
    fake: ProviderServer, costs: CostTracker, fault: Fault, error: type[Exception]
) -> None:
    fake.script(fault)
    with pytest.raises(error):
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    assert len(fake.requests) == 1
    assert await agree(costs, fake) == 0


async def test_an_empty_answer_is_billed_and_retried(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.empty(), Fault.empty(), Fault.empty())
    with pytest.raises(EmptyResponseError):
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    rows = await ledger()
    assert [r["error_class"] for r in rows] == ["EmptyResponseError"] * 3
    assert await agree(costs, fake) > 0


async def test_a_refusal_is_an_error_and_billed(fake: ProviderServer, costs: CostTracker) -> None:
    fake.script(Answer(refusal="I'd rather not.", text=""))
    with pytest.raises(RefusedError):
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    assert await agree(costs, fake) > 0


async def test_what_may_have_been_billed_is_estimated(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.timeout(60), Fault.malformed_json(), Fault.disconnect())
    with pytest.raises(Exception):  # noqa: B017 - whichever comes last
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES, timeout_s=3)
    rows = await ledger()
    assert [r["cost_source"] for r in rows] == ["estimated"] * 3
    assert rows[0]["error_class"] == ProviderTimeoutError.__name__
    assert await costs.get_daily_cost() >= fake.invoice.total_usd > 0


async def test_a_cancelled_call_is_in_the_ledger(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.latency_s = 60
    call = asyncio.create_task(
        LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    )
    while not fake.requests:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (row,) = await ledger()
    assert (row["status"], row["cost_source"]) == ("cancelled", "estimated")
    assert row["cost_usd"] > 0


async def test_a_client_s_own_budget_lasts_its_life(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd="0.02")
    sent = 0
    with pytest.raises(BudgetExceededError, match=r"\$0\.02"):
        for _ in range(100):
            await llm.chat(MESSAGES, max_tokens=1000)
            sent += 1
    assert 0 < sent == len(fake.requests)
    other = LLMClient("openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd="0.02")
    assert await other.chat(MESSAGES, max_tokens=1000)


async def test_a_budget_that_fits_nothing_sends_nothing(fake: ProviderServer, db: Database) -> None:
    costs = CostTracker(db, daily_budget_usd="0.000001")
    with pytest.raises(BudgetExceededError, match="by day"):
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    assert fake.requests == []


async def test_bad_calls_are_refused_before_anything_is_sent(
    fake: ProviderServer, costs: CostTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLMClient("openai", cost_tracker=costs)
    with pytest.raises(InvalidInputError, match="no model"):
        await llm.chat(MESSAGES)
    with pytest.raises(InvalidInputError, match="not empty"):
        await llm.chat([], model="gpt-4o")
    with pytest.raises(InvalidInputError, match=r"messages\[0\] has no 'role'"):
        await llm.chat([{"content": "x"}], model="gpt-4o")
    with pytest.raises(InvalidInputError, match="pydantic model class"):
        await llm.chat(MESSAGES, model="gpt-4o", response_model=dict)  # type: ignore[type-var]
    with pytest.raises(InvalidInputError, match="at least one"):
        await llm.chat_with_fallback(MESSAGES, models=[])
    with pytest.raises(InvalidInputError, match="budget_limit_usd"):
        LLMClient(budget_limit_usd="much")
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(UnknownModelError, match="did you mean gpt-4o"):
        await llm.chat(MESSAGES, model="gpt-4p")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        await llm.chat(MESSAGES, model="gpt-4o")
    assert fake.requests == []


async def test_a_task_names_the_model(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", cost_tracker=costs)
    assert await llm.chat(MESSAGES, task="review")
    (row,) = await ledger()
    assert row["task"] == "review"


async def test_the_second_key_serves_when_the_first_is_refused(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_2", "another")
    fake.script(Fault.status(401))
    assert await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    rows = await ledger()
    assert [r["key_alias"] for r in rows] == ["OPENAI_API_KEY", "OPENAI_API_KEY_2"]


async def test_an_estimate_is_never_less_than_what_is_billed(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    bound = llm.estimate(MESSAGES, response_model=Bill, max_tokens=100)
    await llm.chat(MESSAGES, response_model=Bill, max_tokens=100)
    assert bound is not None
    assert bound >= await agree(costs, fake)


async def test_a_lone_client_makes_its_own_tracker(
    fake: ProviderServer, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = LLMClient("openai", model="gpt-4o", db=db, project="lone")
    await llm.chat(MESSAGES)
    assert llm.cost_tracker.project == "lone"
    today = datetime.now(UTC).date()
    assert (await llm.cost_tracker.get_cost_breakdown(today, today, "project"))[0].key == "lone"
