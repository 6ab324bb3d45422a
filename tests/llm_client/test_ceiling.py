"""Models without a known price under a strict budget: the host's ceiling bounds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.database import Database
from llm_common.errors import BudgetExceededError, UnknownPriceError
from llm_common.testing import Answer, ProviderServer
from llm_common.types import Usage

MESSAGES = [{"role": "user", "content": "Which county pays?"}]
USAGE = Usage(input_tokens=1_000, output_tokens=100)
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

REGISTRY = """
[models."house-model"]
context = 10_000
max_output = 1_000
at = { openai = "house-1" }
[models."house-model".ceiling]
input_usd_per_million = 2
output_usd_per_million = "10.5"
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def write(text: str) -> None:
        path = tmp_path / "registry.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("LLM_COMMON_REGISTRY", str(path))

    write(REGISTRY)
    return write


async def test_without_a_ceiling_a_budget_refuses(
    fake: ProviderServer, db: Database, registry: Callable[[str], None]
) -> None:
    registry(REGISTRY.split('[models."house-model".ceiling]', maxsplit=1)[0])
    llm = LLMClient("openai", model="house-model", cost_tracker=CostTracker(db, daily_budget_usd=1))
    with pytest.raises(UnknownPriceError):
        await llm.chat(MESSAGES)
    assert fake.requests == []


@pytest.mark.usefixtures("registry")
async def test_a_ceiling_bounds_and_its_usage_is_charged_as_an_estimate(
    fake: ProviderServer, db: Database, ledger: Ledger
) -> None:
    fake.script(Answer(text="Kern.", usage=USAGE))
    costs = CostTracker(db, daily_budget_usd="0.05")
    llm = LLMClient("openai", model="house-model", cost_tracker=costs)
    response = await llm.complete(MESSAGES, max_tokens=200)
    (row,) = await ledger()
    # 1,000 x $2 and 100 x $10.50 per million.
    assert row["cost_usd"] == response.cost_usd == Decimal("0.00305")
    assert (row["cost_source"], row["status"]) == ("estimated", "ok")
    assert response.cost_source == "estimated"
    assert row["price_version"] is None
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (Decimal("0.00305"), 0)
    estimate = llm.estimate(MESSAGES, max_tokens=200)
    assert estimate is not None
    assert estimate > Decimal("0.0021")


@pytest.mark.usefixtures("registry")
async def test_the_strict_budget_holds(fake: ProviderServer, db: Database, ledger: Ledger) -> None:
    costs = CostTracker(db, daily_budget_usd="0.02")
    llm = LLMClient("openai", model="house-model", cost_tracker=costs)
    usage = Usage(input_tokens=30, output_tokens=200)
    fake.script(*[Answer(text="Kern.", usage=usage)] * 50)
    with pytest.raises(BudgetExceededError):
        for _ in range(50):
            await llm.chat(MESSAGES, max_tokens=200)
    total = sum(row["cost_usd"] for row in await ledger())
    assert Decimal("0.01") < total <= Decimal("0.02")
    assert len(fake.requests) == len(await ledger())


@pytest.mark.usefixtures("registry")
async def test_an_answer_without_usage_is_charged_its_bound(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Answer(text="Kern.", usage=USAGE, report_usage=False))
    llm = LLMClient("openai", model="house-model", cost_tracker=costs)
    bound = llm.estimate(MESSAGES, max_tokens=200)
    await llm.chat(MESSAGES, max_tokens=200)
    (row,) = await ledger()
    assert (row["cost_usd"], row["cost_source"]) == (bound, "estimated")


async def test_what_the_provider_reports_and_what_is_priced_need_no_ceiling(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, registry: Callable[[str], None]
) -> None:
    ceiling = "input_usd_per_million = 1000\noutput_usd_per_million = 1000\n"
    registry(f"[providers.openai.ceiling]\n{ceiling}[providers.openrouter.ceiling]\n{ceiling}")
    fake.script(Answer(text="a", usage=USAGE), Answer(text="b", usage=USAGE))
    await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    await LLMClient("openrouter", cost_tracker=costs).chat(MESSAGES, model="gpt-4o")
    rows = await ledger()
    assert [row["cost_source"] for row in rows] == ["prices", "provider"]
    assert [row["cost_usd"] for row in rows] == [Decimal("0.0035")] * 2


async def test_a_providers_ceiling_holds_for_whatever_it_serves(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, registry: Callable[[str], None]
) -> None:
    registry(
        "[providers.openai.ceiling]\ninput_usd_per_million = 0.1\noutput_usd_per_million = 0\n"
    )
    fake.script(Answer(text="a", usage=USAGE))
    await LLMClient("openai", model="some-finetune", cost_tracker=costs).chat(MESSAGES)
    (row,) = await ledger()
    assert (row["cost_usd"], row["cost_source"]) == (Decimal("0.0001"), "estimated")
