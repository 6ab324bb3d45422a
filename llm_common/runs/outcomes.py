"""How a unit of a job ended: a closed set of names, each with whose doing it was. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import ValidationError

from ..errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    BudgetExceededError,
    CallError,
    ConfigurationError,
    ContextLengthError,
    DatabaseError,
    EmptyResponseError,
    InsufficientEvidenceError,
    InvalidInputError,
    LLMCommonError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    ResponseValidationError,
    SpoolError,
    UnknownPriceError,
)
from ..types import Fault


class Outcome(StrEnum):
    """How a unit ended; `FAULTS` says whose doing it was."""

    DONE = "done"
    CANCELLED = "cancelled"

    INVALID_INPUT = "invalid_input"
    EMPTY_KEY = "empty_key"
    DUPLICATE_KEY = "duplicate_key"
    TOO_LONG = "too_long"

    NO_EVIDENCE = "no_evidence"

    RATE_LIMITED = "rate_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    PROVIDER_TIMEOUT = "provider_timeout"
    BROKEN_ANSWER = "broken_answer"
    EMPTY_ANSWER = "empty_answer"
    INVALID_ANSWER = "invalid_answer"
    REFUSED = "refused"

    BUDGET_EXCEEDED = "budget_exceeded"
    UNKNOWN_PRICE = "unknown_price"

    BAD_REQUEST = "bad_request"
    KEY_REFUSED = "key_refused"
    UNKNOWN_MODEL = "unknown_model"
    MISCONFIGURED = "misconfigured"
    DATABASE = "database"
    CRASHED = "crashed"
    ERROR = "error"


FAULTS: Mapping[Outcome, Fault] = {
    Outcome.DONE: "none",
    Outcome.CANCELLED: "none",
    Outcome.INVALID_INPUT: "input",
    Outcome.EMPTY_KEY: "input",
    Outcome.DUPLICATE_KEY: "input",
    Outcome.TOO_LONG: "input",
    Outcome.NO_EVIDENCE: "site",
    Outcome.RATE_LIMITED: "provider",
    Outcome.QUOTA_EXHAUSTED: "provider",
    Outcome.PROVIDER_UNAVAILABLE: "provider",
    Outcome.PROVIDER_TIMEOUT: "provider",
    Outcome.BROKEN_ANSWER: "provider",
    Outcome.EMPTY_ANSWER: "provider",
    Outcome.INVALID_ANSWER: "provider",
    Outcome.REFUSED: "provider",
    Outcome.BUDGET_EXCEEDED: "budget",
    Outcome.UNKNOWN_PRICE: "budget",
    Outcome.BAD_REQUEST: "ours",
    Outcome.KEY_REFUSED: "ours",
    Outcome.UNKNOWN_MODEL: "ours",
    Outcome.MISCONFIGURED: "ours",
    Outcome.DATABASE: "ours",
    Outcome.CRASHED: "ours",
    Outcome.ERROR: "ours",
}

_BY_ERROR: tuple[tuple[type[BaseException], Outcome], ...] = (
    (asyncio.CancelledError, Outcome.CANCELLED),
    (QuotaExhaustedError, Outcome.QUOTA_EXHAUSTED),
    (RateLimitedError, Outcome.RATE_LIMITED),
    (ProviderUnavailableError, Outcome.PROVIDER_UNAVAILABLE),
    (ProviderTimeoutError, Outcome.PROVIDER_TIMEOUT),
    (BrokenResponseError, Outcome.BROKEN_ANSWER),
    (EmptyResponseError, Outcome.EMPTY_ANSWER),
    (AuthenticationError, Outcome.KEY_REFUSED),
    (ContextLengthError, Outcome.TOO_LONG),
    (BadRequestError, Outcome.BAD_REQUEST),
    (ModelNotFoundError, Outcome.UNKNOWN_MODEL),
    (RefusedError, Outcome.REFUSED),
    (CallError, Outcome.PROVIDER_UNAVAILABLE),
    (ResponseValidationError, Outcome.INVALID_ANSWER),
    (BudgetExceededError, Outcome.BUDGET_EXCEEDED),
    (UnknownPriceError, Outcome.UNKNOWN_PRICE),
    (InsufficientEvidenceError, Outcome.NO_EVIDENCE),
    (InvalidInputError, Outcome.INVALID_INPUT),
    (ValidationError, Outcome.INVALID_INPUT),
    (ConfigurationError, Outcome.MISCONFIGURED),
    (DatabaseError, Outcome.DATABASE),
    (SpoolError, Outcome.DATABASE),
)
"""The first type that fits."""

PASSING = frozenset(
    {
        Outcome.RATE_LIMITED,
        Outcome.PROVIDER_UNAVAILABLE,
        Outcome.PROVIDER_TIMEOUT,
        Outcome.BROKEN_ANSWER,
        Outcome.EMPTY_ANSWER,
        Outcome.INVALID_ANSWER,
        Outcome.DATABASE,
    }
)
"""Failures that another try may not have."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a step, or a unit, is tried again.

    Attributes:
        times: further tries after a failure that may pass.
        delay_s: before the first of them; it doubles, up to a minute.
        by_error: further tries for errors of a type, in place of `times`; the nearest type counts.
    """

    times: int = 0
    delay_s: float = 1.0
    by_error: Mapping[type[BaseException], int] = field(
        default_factory=dict[type[BaseException], int]
    )

    def wait_s(self, error: BaseException, tries: int) -> float | None:
        """Return the seconds until the next try; None if there is to be none.

        Args:
            tries: so many have failed.
        """
        kinds = type(error).__mro__
        named = next((self.by_error[kind] for kind in kinds if kind in self.by_error), None)
        allowed = (self.times if outcome_of(error) in PASSING else 0) if named is None else named
        if tries > allowed:
            return None
        asked = getattr(error, "retry_after_s", None) or 0.0
        return max(asked, min(self.delay_s * 2 ** (tries - 1), 60.0))


def outcome_of(error: BaseException) -> Outcome:
    """Name an error."""
    return next((o for kind, o in _BY_ERROR if isinstance(error, kind)), Outcome.ERROR)


def message_of(error: BaseException) -> str | None:
    """Return what may be stored of an error: messages of our own hold no secrets."""
    return str(error) if isinstance(error, LLMCommonError) else None
