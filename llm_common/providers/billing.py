"""What a provider says that it charged, per UTC day.

An organisation's bill needs a key of its own: `OPENAI_ADMIN_KEY`, `ANTHROPIC_ADMIN_KEY` or
`OPENROUTER_ADMIN_KEY` (there called a management key). Formats as the providers document them:
OpenAI's ``/organization/costs``, Anthropic's ``/v1/organizations/cost_report``, OpenRouter's
``/activity``.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from ..errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    CurrencyError,
    InvalidInputError,
    MissingKeyError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitedError,
)
from .usage import table, tables

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 30.0
PAGE_DAYS = 31
"""Days per page: the most that Anthropic gives."""
OPENROUTER_DAYS = 30
"""How far back OpenRouter's activity goes: so many completed days."""

Bill = dict[date, Decimal]
"""USD by UTC day."""
Line = tuple[date, Decimal]


@dataclass(frozen=True, slots=True)
class Biller:
    """How one provider is asked.

    Attributes:
        base_url: where `<NAME>_BASE_URL` is not set.
        headers: of a key.
        query: of a span of days.
        read: takes the lines out of one page.
        last_days: how far back it tells; None means as far as one asks.
    """

    base_url: str
    path: str
    headers: Callable[[str], Mapping[str, str]]
    query: Callable[[date, date], Mapping[str, str]]
    read: Callable[[Mapping[str, Any]], Iterable[Line]]
    last_days: int | None = None


def reported_days(provider: str, start: date, end: date, today: date) -> tuple[date, date] | None:
    """Return the part of a span of days that a provider has told of in full, or None. Pure.

    Args:
        today: in UTC; it is not over, so it is not among them.
    """
    back = biller(provider).last_days
    first = start if back is None else max(start, today - timedelta(days=back))
    last = min(end, today - timedelta(days=1))
    return (first, last) if first <= last else None


def with_key() -> list[str]:
    """Return the providers whose bill can be asked for: their admin key is in the environment."""
    return [provider for provider in BILLERS if os.environ.get(_key_name(provider))]


async def billed(provider: str, start: date, end: date) -> Bill:
    """Ask a provider what it charged its organisation on each day; both dates are included.

    Raises:
        InvalidInputError: the provider reports no costs.
        MissingKeyError: no admin key in the environment.
        CurrencyError: it bills in another currency than USD.
        CallError: by type, as for calls; nothing that the provider said is in the message.
    """
    asked = biller(provider)
    key = os.environ.get(_key_name(provider))
    if not key:
        raise MissingKeyError(f"{provider} tells its costs to an admin key: {_key_name(provider)}")
    bill = {start + timedelta(days=n): Decimal(0) for n in range((end - start).days + 1)}
    async for page in _pages(provider, asked, key, asked.query(start, end)):
        for day, amount in _read(provider, asked, page):
            if day in bill:
                bill[day] += amount
    return bill


def biller(provider: str) -> Biller:
    """Return how a provider is asked.

    Raises:
        InvalidInputError: it reports no costs.
    """
    if provider not in BILLERS:
        names = ", ".join(BILLERS)
        raise InvalidInputError(f"{provider} does not report its costs; these do: {names}")
    return BILLERS[provider]


async def _pages(
    provider: str, asked: Biller, key: str, query: Mapping[str, str]
) -> AsyncIterator[Mapping[str, Any]]:
    import httpx

    base_url = os.environ.get(f"{provider.upper()}_BASE_URL") or asked.base_url
    url = base_url.rstrip("/") + asked.path
    seen: set[str] = set()
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=asked.headers(key)) as client:
        while True:
            page = await _get(provider, client, url, query)
            yield page
            if not page.get("has_more"):
                return
            token = str(page.get("next_page") or "")
            if not token or token in seen:
                raise BrokenResponseError(
                    f"{provider}'s bill does not end: its next page is one that was read",
                    provider=provider,
                )
            seen.add(token)
            query = {**query, "page": token}


async def _get(
    provider: str, client: httpx.AsyncClient, url: str, query: Mapping[str, str]
) -> Mapping[str, Any]:
    import httpx

    try:
        response = await client.get(url, params=query)
    except httpx.TimeoutException:
        raise ProviderTimeoutError(f"{provider} gave no bill in time", provider=provider) from None
    except httpx.HTTPError as error:
        problem = f"{provider}'s bill can't be fetched ({type(error).__name__})"
        raise ProviderUnavailableError(problem, provider=provider) from None
    if response.status_code != 200:
        raise _refused(provider, response.status_code)
    try:
        return table(json.loads(response.content, parse_float=Decimal))
    except ValueError:
        # `from None`: the decoder's error holds the whole answer.
        raise _unknown_shape(provider) from None


def _refused(provider: str, status: int) -> CallError:
    kinds: dict[int, type[CallError]] = {
        401: AuthenticationError,
        403: AuthenticationError,
        429: RateLimitedError,
    }
    kind = kinds.get(status, ProviderUnavailableError if status >= 500 else BadRequestError)
    hint = f": check {_key_name(provider)}" if kind is AuthenticationError else ""
    return kind(
        f"{provider} gave no bill (status {status}){hint}", provider=provider, status=status
    )


def _read(provider: str, asked: Biller, page: Mapping[str, Any]) -> list[Line]:
    if not isinstance(page.get("data"), list):
        raise _unknown_shape(provider)
    try:
        return list(asked.read(page))
    except (KeyError, ValueError, TypeError, InvalidOperation, OSError):
        raise _unknown_shape(provider) from None


def _unknown_shape(provider: str) -> BrokenResponseError:
    return BrokenResponseError(
        f"{provider}'s bill has an unknown shape: check {provider.upper()}_BASE_URL",
        provider=provider,
    )


def _key_name(provider: str) -> str:
    return f"{provider.upper()}_ADMIN_KEY"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _amount(value: object) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError(value)
    return amount


def _in_usd(currency: object) -> None:
    """Refuse another currency.

    Raises:
        CurrencyError: the ledger is in USD, and nothing is converted.
    """
    if str(currency).upper() != "USD":
        raise CurrencyError(f"a bill in {currency} can't be compared: the ledger is in USD")


def _openai_query(start: date, end: date) -> dict[str, str]:
    return {
        "start_time": str(int(_midnight(start).timestamp())),
        "end_time": str(int(_midnight(end + timedelta(days=1)).timestamp())),
        "bucket_width": "1d",
        "limit": str(PAGE_DAYS),
    }


def _openai_lines(page: Mapping[str, Any]) -> Iterable[Line]:
    for bucket in tables(page["data"]):
        day = datetime.fromtimestamp(int(bucket["start_time"]), UTC).date()
        for result in tables(bucket["results"]):
            amount = result["amount"]
            _in_usd(amount["currency"])
            yield day, _amount(amount["value"])


def _anthropic_query(start: date, end: date) -> dict[str, str]:
    return {
        "starting_at": f"{start}T00:00:00Z",
        "ending_at": f"{end + timedelta(days=1)}T00:00:00Z",
        "bucket_width": "1d",
        "limit": str(PAGE_DAYS),
    }


def _anthropic_lines(page: Mapping[str, Any]) -> Iterable[Line]:
    for bucket in tables(page["data"]):
        day = datetime.fromisoformat(bucket["starting_at"]).astimezone(UTC).date()
        for result in tables(bucket["results"]):
            _in_usd(result["currency"])
            # In cents, as a decimal text.
            yield day, _amount(result["amount"]).scaleb(-2)


def _openrouter_lines(page: Mapping[str, Any]) -> Iterable[Line]:
    for item in tables(page["data"]):
        yield date.fromisoformat(item["date"][:10]), _amount(item["usage"])


BILLERS = {
    "openai": Biller(
        base_url="https://api.openai.com/v1",
        path="/organization/costs",
        headers=lambda key: {"Authorization": f"Bearer {key}"},
        query=_openai_query,
        read=_openai_lines,
    ),
    "openrouter": Biller(
        base_url="https://openrouter.ai/api/v1",
        path="/activity",
        headers=lambda key: {"Authorization": f"Bearer {key}"},
        query=lambda _start, _end: {},
        read=_openrouter_lines,
        last_days=OPENROUTER_DAYS,
    ),
    "anthropic": Biller(
        base_url="https://api.anthropic.com",
        path="/v1/organizations/cost_report",
        headers=lambda key: {"x-api-key": key, "anthropic-version": "2023-06-01"},
        query=_anthropic_query,
        read=_anthropic_lines,
    ),
}
