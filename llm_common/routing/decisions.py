"""After a failed attempt: try again, go to the next deployment, or give up. Pure functions."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ..errors import (
    AuthenticationError,
    BrokenResponseError,
    CallError,
    ContextLengthError,
    EmptyResponseError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)

_PASSING = (
    RateLimitedError,
    ProviderUnavailableError,
    ProviderTimeoutError,
    BrokenResponseError,
    EmptyResponseError,
)
_THIS_DEPLOYMENT = (AuthenticationError, ModelNotFoundError, QuotaExhaustedError)


@dataclass(frozen=True, slots=True)
class Retry:
    """Send to the same deployment again after `delay_s` seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class NextDeployment:
    """Send to the next deployment, at once."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise the error: another attempt can't help, or the operation's limits are reached."""


Decision = Retry | NextDeployment | GiveUp


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of one operation.

    Attributes:
        max_attempts: requests on the wire, over all deployments.
        retries: repeats at one deployment.
        wall_time_s: seconds from the first attempt; no retry is planned beyond them.
        patience_s: the longest wait for a provider's Retry-After; a longer one moves on.
        base_s: first backoff; each later one is twice as long.
        max_backoff_s: the longest backoff.
    """

    max_attempts: int = 6
    retries: int = 2
    wall_time_s: float = 300.0
    patience_s: float = 10.0
    base_s: float = 0.5
    max_backoff_s: float = 8.0


@dataclass(frozen=True, slots=True)
class AttemptState:
    """Where an operation stands after its latest attempt failed.

    Attributes:
        attempts: requests sent so far, over all deployments.
        retries_here: repeats at this deployment so far.
        deployments_left: deployments that the operation has not moved on from.
        elapsed_s: seconds since the operation began.
        jitter: a draw from [0, 1) that spreads the backoff.
        free_keys: those of them that are other keys of the same model, and free now.
        roomier_left: those of them whose context is larger.
    """

    attempts: int
    retries_here: int
    deployments_left: int
    elapsed_s: float
    jitter: float = field(default_factory=random.random)
    free_keys: int = 0
    roomier_left: int = 0


def after(error: CallError, state: AttemptState, policy: Policy) -> Decision:
    """Decide what follows a failed attempt, by the type of its error.

    Passing trouble (429, 5xx, timeouts, broken or empty answers) is retried here with backoff,
    then at the next deployment; a 429 goes to another key of the model first. A refused key, an
    unknown model and a spent quota go straight to the next deployment, and too long an input to one
    with a larger context. Everything else (bad request, refusal) gives up: it would fail again, or
    the caller must decide.
    """
    remaining_s = policy.wall_time_s - state.elapsed_s
    if state.attempts >= policy.max_attempts or remaining_s <= 0:
        return GiveUp()
    elsewhere = NextDeployment() if state.deployments_left > 0 else GiveUp()
    if isinstance(error, ContextLengthError):
        return NextDeployment() if state.roomier_left else GiveUp()
    if isinstance(error, _THIS_DEPLOYMENT) or (
        isinstance(error, RateLimitedError) and state.free_keys
    ):
        return elsewhere
    if not isinstance(error, _PASSING):
        return GiveUp()
    delay_s = _delay_s(error, state, policy)
    if (
        state.retries_here >= policy.retries
        or delay_s > policy.patience_s
        or delay_s >= remaining_s
    ):
        return elsewhere
    return Retry(delay_s)


def _delay_s(error: CallError, state: AttemptState, policy: Policy) -> float:
    """Seconds to wait: never less than the provider asks, else exponential with jitter."""
    ceiling = min(policy.base_s * 2.0**state.retries_here, policy.max_backoff_s)
    backoff = ceiling * (0.5 + state.jitter / 2)
    return max(error.retry_after_s or 0.0, backoff)
