"""What a tracker is told and what it answers: limits, intents, outcomes, sums."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Literal, cast
from uuid import UUID, uuid4

from pydantic import field_validator, model_validator

from ..context import current
from ..errors import CurrencyError, InvalidInputError
from ..types import Frozen, Usage

Scope = Literal["project", "user", "task", "model", "run", "job", "tag"]
Window = Literal["day", "month", "total"]
Kind = Literal["first", "retry", "fallback", "reask", "search", "external"]
SpoolKind = Literal["disk", "database"]
Status = Literal["ok", "error", "cancelled", "estimated"]

NANO = Decimal(10) ** 9
MOST_USD = Decimal(10) ** 8
"""Money columns are numeric(20,12): eight digits before the point."""
_CODE = re.compile(r"\s*(?:([A-Za-z]{3})\s*-?[\d.,]+|-?[\d.,]+\s*([A-Za-z]{3}))\s*$")
ESTIMATED = "estimated"
"""`cost_source` of a row whose cost is the upper bound, until something better is known."""


def usd(value: Decimal | float | str, what: str = "amount") -> Decimal:
    """Return an amount of USD as an exact, finite, non-negative `Decimal`.

    A float is read as the number that it prints, so 0.1 is a tenth. A text is a number alone:
    "$10" and "10 USD" are refused, because a sign or a code may be meant for another currency.

    Raises:
        CurrencyError: a text with the sign or the code of another currency.
        InvalidInputError: not a number, negative, infinite, NaN, or 100 million and more, which
            the ledger's columns can't hold.
    """
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("nan")
    if isinstance(value, str) and not amount.is_finite():
        _refuse_currency(value, what)
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise InvalidInputError(f"{what} must be a number of USD, 0 or more, not {value!r}")
    if amount >= MOST_USD:
        raise InvalidInputError(f"{what} must be less than {MOST_USD:,} USD, not {value!r}")
    return amount


def _refuse_currency(text: str, what: str) -> None:
    """Refuse an amount that has a currency.

    Raises:
        CurrencyError: it is not the dollar.
        InvalidInputError: it is.
    """
    signs = "".join(c for c in text if unicodedata.category(c) == "Sc")
    code = _CODE.match(text)
    named = signs or (code and (code[1] or code[2]).upper())
    if named in ("$", "USD"):
        raise InvalidInputError(
            f"{what} must be a number of USD, 0 or more, not {text!r}: write the number alone"
        )
    if named:
        raise CurrencyError(
            f"{what} must be a number of USD, 0 or more, not {text!r}: "
            "other currencies are not converted"
        )


def to_nano(amount: Decimal) -> int:
    """Round an amount of USD up to whole nano-dollars."""
    return int((amount * NANO).to_integral_value(ROUND_CEILING))


def from_nano(nano: int) -> Decimal:
    """Return nano-dollars as USD."""
    return Decimal(nano) / NANO


@dataclass(frozen=True, slots=True)
class Limit:
    """A strict budget: what one scope may spend in one window."""

    scope: Scope
    scope_id: str
    window: Window
    limit_usd: Decimal

    def payload(self) -> dict[str, str]:
        """Return it as `llm_reserve` takes it."""
        return {
            "scope": self.scope,
            "scope_id": self.scope_id,
            "window": self.window,
            "limit_usd": str(self.limit_usd),
        }


@dataclass(frozen=True, slots=True)
class Intent:
    """An attempt that is about to be sent: its labels and the most that it can cost.

    Attributes:
        bound_nano: upper bound in nano-dollars; None when the price is unknown.
        limits: limits of the caller, beside those of the tracker.
        timeout_s: the call's own deadline; the hold outlives it by a margin.
    """

    operation_id: str
    attempt_no: int
    kind: Kind
    provider: str
    model: str
    bound_nano: int | None
    price_version: str | None = None
    requested_model: str | None = None
    key_alias: str | None = None
    project: str | None = None
    step: str | None = None
    user_id: str | None = None
    task: str | None = None
    run_id: str | None = None
    job_id: str | None = None
    arm: str | None = None
    tags: tuple[str, ...] = ()
    prompt: tuple[str | None, str | None, str | None] = (None, None, None)
    limits: tuple[Limit, ...] = ()
    timeout_s: float = 120.0

    def row(self, project: str) -> dict[str, Any]:
        """Return the ledger row as it stands if nothing more is heard of the attempt.

        Raises:
            InvalidInputError: `run_id` is no UUID.
        """
        prompt_id, prompt_version, prompt_hash = self.prompt
        return {
            "operation_id": self.operation_id,
            "attempt_no": self.attempt_no,
            "kind": self.kind,
            "status": "estimated",
            "provider": self.provider,
            "model": self.model,
            "requested_model": self.requested_model or self.model,
            "key_alias": self.key_alias,
            "project": project,
            "step": self.step,
            "user_id": self.user_id,
            "task": self.task,
            "run_id": _uuid(self.run_id),
            "job_id": self.job_id,
            "arm": self.arm,
            "tags": list(self.tags),
            "prompt_id": prompt_id,
            "prompt_version": prompt_version,
            "prompt_hash": prompt_hash,
            "cost_usd": None if self.bound_nano is None else str(from_nano(self.bound_nano)),
            "cost_source": ESTIMATED,
            "price_version": self.price_version,
        }


@dataclass(frozen=True, slots=True)
class Hold:
    """A reserved attempt: settle it, whatever happens."""

    intent: Intent
    row: dict[str, Any]
    started: float
    """`time.monotonic()` of the reservation."""
    spooled: bool = True
    """Whether its result goes to the spool on disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        cost_usd: exact cost; None when unknown. Ignored when `estimate` is set.
        estimate: the cost can't be known: charge the upper bound until it is.
    """

    status: Status
    cost_usd: Decimal | None = None
    cost_source: str | None = None
    price_version: str | None = None
    usage: Usage | None = None
    model: str | None = None
    error_class: str | None = None
    estimate: bool = False

    def row(self, hold: Hold, latency_ms: int) -> dict[str, Any]:
        """Return the ledger row of a settled attempt."""
        usage = self.usage
        bound = hold.intent.bound_nano
        cost = hold.row["cost_usd"] if self.estimate else _text(self.cost_usd)
        over = bound is not None and cost is not None and Decimal(cost) > from_nano(bound)
        return {
            **hold.row,
            "status": self.status,
            "model": self.model or hold.intent.model,
            "error_class": self.error_class,
            "cost_usd": cost,
            "cost_source": ESTIMATED if self.estimate else self.cost_source,
            "price_version": self.price_version or hold.intent.price_version,
            "tokens_used": usage.total_tokens if usage else None,
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "cached_input_tokens": usage.cached_input_tokens if usage else None,
            "cache_write_tokens": usage.cache_write_tokens if usage else None,
            "reasoning_tokens": usage.reasoning_tokens if usage else None,
            "latency_ms": latency_ms,
            "over_hold": over,
        }


def unsent(status: Status, error_class: str) -> dict[str, Any]:
    """Return what a row says of an attempt that never left."""
    return {"status": status, "error_class": error_class, "cost_usd": "0", "cost_source": "unsent"}


def _uuid(run_id: str | None) -> str | None:
    try:
        return run_id and str(UUID(run_id))
    except ValueError as error:
        raise InvalidInputError(f"run_id must be a UUID, not {run_id!r}") from error


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


class CostMetrics(Frozen):
    """Spend that happened outside this library, for `CostTracker.log_cost`.

    Attributes:
        cost_usd: USD; None when unknown.
        operation_id: of a call that this library made and recorded already, if it was one.
        timestamp: when it was spent; now, if not given.

    Raises:
        CurrencyError: a field `currency`, or a cost that names another currency than USD.
        InvalidInputError: a cost that is not a number of USD, 0 or more.
    """

    model: str
    step: str | None = None
    cost_usd: Decimal | None = None
    tokens_used: int | None = None
    project: str | None = None
    user_id: str | None = None
    provider: str | None = None
    operation_id: UUID | None = None
    timestamp: datetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_usd(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and "currency" in fields:
            named = cast("Mapping[str, Any]", fields)["currency"]
            raise CurrencyError(
                f"CostMetrics has no currency (here {named!r}): cost_usd is USD, and other "
                "currencies are not converted"
            )
        return cast("Any", fields)

    @field_validator("cost_usd", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Decimal | None:
        return None if value is None else usd(value, "cost_usd")

    def row(self, project: str) -> dict[str, Any]:
        """Return it as a ledger row, with the labels in force where it names none."""
        labels = current()
        return {
            "operation_id": str(self.operation_id or uuid4()),
            "attempt_no": 1,
            "kind": "external",
            "status": "ok",
            "model": self.model,
            "requested_model": self.model,
            "provider": self.provider,
            "project": self.project or project,
            "step": self.step or labels.step,
            "user_id": self.user_id or labels.user,
            "task": labels.task,
            "run_id": labels.run_id,
            "job_id": labels.job_id,
            "arm": labels.arm,
            "cost_usd": _text(self.cost_usd),
            "cost_source": None if self.cost_usd is None else "external",
            "tokens_used": self.tokens_used,
            "timestamp": self.timestamp.isoformat() if self.timestamp else None,
        }


class CostTotal(Decimal):
    """A sum of USD that also says how many rows it leaves out because their price is unknown."""

    unpriced: int

    def __new__(cls, amount: Decimal | str, unpriced: int = 0) -> CostTotal:
        """Make the sum."""
        total = super().__new__(cls, amount)
        total.unpriced = unpriced
        return total


class CostBreakdown(Frozen):
    """One line of a breakdown: what one model, step, project, user, task or day cost.

    `key` is None for calls without that label.
    """

    key: str | None
    total_cost: Decimal
    calls: int = 0
    tokens: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """How one limit stands."""

    scope: Scope
    scope_id: str
    window: Window
    window_start: date
    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
