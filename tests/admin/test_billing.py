"""What providers charged, read page by page."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CurrencyError,
    InvalidInputError,
    MissingKeyError,
    ProviderUnavailableError,
    RateLimitedError,
)
from llm_common.providers import billing
from tests.admin.bills import KEYS, Bills

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 5)
PROVIDERS = sorted(KEYS)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_bill_is_the_sum_of_its_lines_by_day(bills: Bills, provider: str) -> None:
    for day, usd in ((1, "0.06"), (1, "1.2345"), (3, "0.0000125"), (5, "2"), (6, "99")):
        bills.charge(provider, date(2026, 11, day), usd)
    assert await billing.billed(provider, FIRST, LAST) == {
        date(2026, 11, 1): Decimal("1.2945"),
        date(2026, 11, 2): Decimal(0),
        date(2026, 11, 3): Decimal("0.0000125"),
        date(2026, 11, 4): Decimal(0),
        date(2026, 11, 5): Decimal(2),
    }
    assert len(bills.requests) == (1 if provider == "openrouter" else 3)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_another_currency_is_refused(bills: Bills, provider: str) -> None:
    bills.charge(provider, FIRST, "1", "eur")
    with pytest.raises(CurrencyError, match=r"a bill in (eur|EUR) can't be compared"):
        await billing.billed(provider, FIRST, LAST)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_key_is_an_admins(
    bills: Bills, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{provider.upper()}_ADMIN_KEY"
    assert billing.with_key() == ["openai", "openrouter", "anthropic"]
    monkeypatch.setenv(name, "sk-of-nobody")
    with pytest.raises(AuthenticationError, match=f"check {name}") as refused:
        await billing.billed(provider, FIRST, LAST)
    assert "sk-of-nobody" not in str(refused.value)
    monkeypatch.delenv(name)
    assert provider not in billing.with_key()
    with pytest.raises(MissingKeyError, match=name):
        await billing.billed(provider, FIRST, LAST)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequestError), (404, BadRequestError), (429, RateLimitedError),
     (500, ProviderUnavailableError), (302, BadRequestError)],
)  # fmt: skip
async def test_a_refusal_is_typed(bills: Bills, status: int, kind: type[Exception]) -> None:
    bills.status = status
    with pytest.raises(kind, match=f"openai gave no bill .status {status}") as refused:
        await billing.billed("openai", FIRST, LAST)
    assert type(refused.value) is kind


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        {},
        {"data": None},
        {"data": [{}]},
        {"data": [{"start_time": "x", "results": []}]},
        {"data": [{"start_time": 1, "results": [{"amount": 5}]}]},
        {"data": [{"start_time": 1, "results": [{"amount": {"value": "NaN", "currency": "usd"}}]}]},
    ],
)
async def test_an_unknown_shape_is_said_so(bills: Bills, body: Any) -> None:
    bills.body = body
    with pytest.raises(BrokenResponseError, match="unknown shape: check OPENAI_BASE_URL"):
        await billing.billed("openai", FIRST, LAST)


async def test_pages_that_never_end_are_refused(bills: Bills) -> None:
    bills.endless = True
    with pytest.raises(BrokenResponseError, match="does not end"):
        await billing.billed("openai", FIRST, LAST)
    assert len(bills.requests) == 2


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(ProviderUnavailableError, match=r"can't be fetched .ConnectError"):
        await billing.billed("openai", FIRST, LAST)


async def test_a_provider_without_a_bill() -> None:
    with pytest.raises(InvalidInputError, match="zai does not report its costs; these do: openai"):
        await billing.billed("zai", FIRST, LAST)


@pytest.mark.parametrize(
    ("provider", "today", "expected"),
    [
        ("openai", date(2026, 11, 6), (FIRST, LAST)),
        ("openai", date(2026, 11, 5), (FIRST, date(2026, 11, 4))),
        ("anthropic", date(2026, 11, 1), None),
        ("anthropic", date(2027, 11, 1), (FIRST, LAST)),
        ("openrouter", date(2026, 12, 3), (date(2026, 11, 3), LAST)),
        ("openrouter", date(2026, 12, 30), None),
    ],
)
def test_only_days_that_are_told_in_full(
    provider: str, today: date, expected: tuple[date, date] | None
) -> None:
    assert billing.reported_days(provider, FIRST, LAST, today) == expected
