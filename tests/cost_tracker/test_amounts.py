"""What is no amount of USD, no scope or no window is refused at once, in a sentence."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_common.cost_tracker import CostMetrics, CostTracker, usd
from llm_common.errors import ConfigurationError, CurrencyError, InvalidInputError
from llm_common.pricing import in_usd
from llm_common.routing import load_registry

NOWHERE = "postgresql://localhost/none"


@pytest.mark.parametrize(
    "amount",
    ["10 EUR", "10EUR", "eur 10", "EUR10", "€10", "10 €", "£1", "¥100", "-3 CHF", "1.5 gbp", "€$5"],
)
def test_another_currency_is_named_as_such(amount: str) -> None:
    with pytest.raises(CurrencyError, match="other currencies are not converted") as refused:
        usd(amount, "the day budget")
    assert repr(amount) in str(refused.value)
    assert str(refused.value).startswith("the day budget must be a number of USD, 0 or more")
    with pytest.raises(CurrencyError):
        CostTracker(NOWHERE, monthly_budget_usd=amount)


@pytest.mark.parametrize("amount", ["$10", "10$", "10 USD", "usd 10", " USD 10 "])
def test_dollars_are_written_as_a_number_alone(amount: str) -> None:
    with pytest.raises(InvalidInputError, match="write the number alone") as refused:
        usd(amount)
    assert not isinstance(refused.value, CurrencyError)


@pytest.mark.parametrize(
    "amount", ["", "ten", "nan", "Infinity", "-1", -0.01, float("nan"), float("-inf"), True, None]
)
def test_what_is_no_amount(amount: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be a number of USD, 0 or more") as refused:
        usd(amount)
    assert not isinstance(refused.value, CurrencyError)


@pytest.mark.parametrize("amount", [10**8, "1e8", 1e300])
def test_more_than_the_ledger_can_hold(amount: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be less than 100,000,000 USD"):
        usd(amount)
    assert usd("99999999.999999999999") < 10**8


def test_amounts_are_exact() -> None:
    assert usd(0.1) == Decimal("0.1")
    assert usd("0.000000000001") == Decimal("1E-12")
    assert usd(0) == usd("0") == 0


@pytest.mark.parametrize(
    ("scope", "scope_id", "window", "sentence"),
    [
        ("team", "a", "day", "a limit's scope is one of project, user, task, .* not 'team'"),
        ("user", "a", "week", "a limit's window is one of day, month, total, not 'week'"),
        ("user", None, "day", "a limit of scope user needs a scope_id, not None"),
        ("user", "", "day", "a limit of scope user needs a scope_id, not ''"),
        ("user", 17, "day", "a limit of scope user needs a scope_id, not 17"),
        ("project", 17, "day", "a limit of scope project needs a scope_id, not 17"),
        (["user"], "a", "day", "a limit's scope is one of"),
    ],
)
def test_a_limit_that_can_not_be(scope: Any, scope_id: Any, window: Any, sentence: str) -> None:
    tracker = CostTracker(NOWHERE)
    with pytest.raises(InvalidInputError, match=sentence):
        tracker.limit(scope, scope_id, window, 1)
    assert tracker._limits == []


def test_metrics_have_no_currency() -> None:
    for named in ("EUR", "USD"):
        fields: dict[str, Any] = {"model": "m", "cost_usd": 1, "currency": named}
        with pytest.raises(CurrencyError, match=f"no currency .here '{named}'.: cost_usd is USD"):
            CostMetrics(**fields)
    with pytest.raises(CurrencyError, match="cost_usd must be a number of USD"):
        CostMetrics(model="m", cost_usd="3 EUR")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="cost_usd must be a number of USD"):
        CostMetrics(model="m", cost_usd=float("nan"))  # type: ignore[arg-type]


def test_price_data_is_in_usd() -> None:
    prices: dict[str, Any] = {"prices": {"openai": {"m": {"input": 1, "currency": "USD"}}}}
    assert in_usd(prices) is prices
    assert in_usd({**prices, "currency": "USD"})
    with pytest.raises(CurrencyError, match="the price data is in EUR: prices must be in USD"):
        in_usd({**prices, "currency": "EUR"})
    prices["prices"]["openai"]["m"]["currency"] = "CNY"
    with pytest.raises(CurrencyError, match="m is in CNY"):
        in_usd(prices)


@pytest.mark.parametrize("text", ['currency = "EUR"', '[models."m"]\ncurrency = "EUR"'])
def test_a_registry_has_no_currency(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"models\.toml, line \d: .*currency is"):
        load_registry(str(path))
