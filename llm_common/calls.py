"""One operation = attempts of reserve -> send -> settle; model calls and searches alike.

Retries are decided by `routing` alone; this module waits, sends and writes down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar
from uuid import uuid4

from .context import Labels
from .cost_tracker import ESTIMATED, CostTracker, Hold, Intent, Kind, Limit, Outcome
from .errors import CallError
from .pricing import Price, cost_of
from .routing import AttemptState, GiveUp, NextDeployment, Policy, Retry, after
from .telemetry import Observation, started
from .types import Usage

R = TypeVar("R")
D = TypeVar("D")
OperationName = Literal["chat", "embeddings", "web_search"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where an attempt goes and the most that it can cost.

    Attributes:
        bound_nano: upper bound in nano-dollars; None when the price is unknown.
    """

    provider: str
    model: str
    key_alias: str | None
    price: Price | None
    bound_nano: int | None


@dataclass(frozen=True, slots=True)
class Answer(Generic[R]):
    """What came back on the wire, with what is needed to price it.

    Attributes:
        fault: the answer was billed but is of no use, such as an empty one.
    """

    value: R
    usage: Usage | None = None
    reported_usd: Decimal | None = None
    model: str | None = None
    fault: CallError | None = None


@dataclass(slots=True)
class Operation:
    """One call of a caller: its labels, and its attempts and cost so far."""

    tracker: CostTracker
    labels: Labels
    requested_model: str
    timeout_s: float
    first_kind: Kind = "first"
    limits: tuple[Limit, ...] = ()
    prompt: tuple[str | None, str | None, str | None] = (None, None, None)
    name: OperationName = "chat"
    id: str = field(default_factory=lambda: str(uuid4()))
    attempts: int = 0
    cost_usd: Decimal | None = Decimal(0)
    cost_source: str | None = None
    started: float = field(default_factory=time.monotonic)
    seen: Observation | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the operation began."""
        return time.monotonic() - self.started

    def intent(self, target: Target, kind: Kind) -> Intent:
        """Describe the next attempt to the tracker."""
        labels = self.labels
        return Intent(
            operation_id=self.id,
            attempt_no=self.attempts,
            kind=kind,
            provider=target.provider,
            model=target.model,
            bound_nano=target.bound_nano,
            price_version=target.price.version if target.price else None,
            requested_model=self.requested_model,
            key_alias=target.key_alias,
            project=labels.project,
            step=labels.step,
            user_id=labels.user,
            task=labels.task,
            run_id=labels.run_id,
            job_id=labels.job_id,
            arm=labels.arm,
            tags=labels.tags,
            prompt=self.prompt,
            limits=self.limits,
            timeout_s=self.timeout_s,
        )

    async def reserve(self, target: Target, kind: Kind) -> Hold:
        """Begin the next attempt: hold its bound and write it down; see `CostTracker.reserve`."""
        self.attempts += 1
        intent = self.intent(target, kind)
        self.seen = started(self.name, intent)
        try:
            return await self.tracker.reserve(intent)
        except BaseException as error:
            if self.seen is not None:
                self.seen.refused(error)
            raise

    def sending(self) -> AbstractContextManager[object]:
        """Enter while a request is on the wire: what happens inside belongs to the attempt."""
        return nullcontext() if self.seen is None else self.seen.sending()

    def settle(self, hold: Hold, outcome: Outcome) -> None:
        """Record how an attempt ended and add its cost to the operation's."""
        cost = self.tracker.settle(hold, outcome)
        if self.seen is not None:
            self.seen.settled(outcome, cost, time.monotonic() - hold.started)
        self.cost_usd = None if self.cost_usd is None or cost is None else self.cost_usd + cost
        self.cost_source = ESTIMATED if outcome.estimate else outcome.cost_source


async def attempt(
    op: Operation, target: Target, kind: Kind, send: Callable[[], Awaitable[Answer[R]]]
) -> Answer[R]:
    """Reserve, send once, settle; whatever happens, the ledger has the attempt.

    Raises:
        BudgetError, SpoolError, DatabaseError: refused; nothing was sent.
        CallError: the attempt failed, or its answer is of no use.
    """
    hold = await op.reserve(target, kind)
    try:
        with op.sending():
            answer = await send()
    except CallError as error:
        op.settle(hold, _failed(error))
        raise
    except BaseException as error:
        # Cancelled or interrupted: the request may be billed, so its bound is charged.
        op.settle(hold, Outcome("cancelled", estimate=True, error_class=type(error).__name__))
        raise
    op.settle(hold, _answered(answer, target))
    if answer.fault is not None:
        raise answer.fault
    return answer


async def attempt_stream(
    op: Operation,
    target: Target,
    kind: Kind,
    items: AsyncGenerator[R, None],
    arrived: Callable[[], Answer[Any]],
) -> AsyncGenerator[R, None]:
    """Reserve, send once, pass on what arrives, settle; see `attempt`.

    It settles when the stream ends, when it breaks and when its reader leaves it.

    Args:
        items: sends when its first item is asked for.
        arrived: what is known of the answer by now; asked once, at the end.
    """
    hold = await op.reserve(target, kind)
    async with aclosing(items):
        try:
            async for item in items:
                yield item
        except BaseException as error:
            op.settle(hold, _broken_off(arrived(), error, target))
            raise
        answer = arrived()
        op.settle(hold, _answered(answer, target))
    if answer.fault is not None:
        raise answer.fault


def _broken_off(answer: Answer[Any], error: BaseException, target: Target) -> Outcome:
    """An answer that named its usage before it broke off is billed by it; see `attempt`."""
    name = type(error).__name__
    status = "error" if isinstance(error, CallError) else "cancelled"
    if answer.usage is not None or answer.reported_usd is not None:
        return replace(_answered(answer, target), status=status, error_class=name)
    if isinstance(error, CallError):
        return _failed(error)
    return Outcome(status, estimate=True, error_class=name)


def _failed(error: CallError) -> Outcome:
    name = type(error).__name__
    if error.billed is False:
        return Outcome("error", Decimal(0), "unbilled", error_class=name)
    return Outcome("error", estimate=True, error_class=name)


def _answered(answer: Answer[R], target: Target) -> Outcome:
    price = target.price
    cost = cost_of(answer.usage, price, answer.reported_usd, target.provider)
    metered = answer.usage is not None or answer.reported_usd is not None
    return Outcome(
        "error" if answer.fault else "ok",
        cost.usd,
        cost.source,
        cost.version,
        answer.usage,
        answer.model,
        type(answer.fault).__name__ if answer.fault else None,
        # A priced answer that names no usage costs something between nothing and its bound.
        estimate=not metered and price is not None and not price.is_per_request,
    )


async def operate(
    op: Operation,
    deployments: Sequence[D],
    try_one: Callable[[D, Kind], Awaitable[R]],
    policy: Policy,
) -> R:
    """Try deployments in order until one answers, as `routing.after` decides.

    Raises:
        CallError: of the last attempt, when there is nothing left to try.
    """
    position, retries_here, kind = 0, 0, op.first_kind
    while True:
        try:
            return await try_one(deployments[position], kind)
        except CallError as error:
            state = AttemptState(
                attempts=op.attempts,
                retries_here=retries_here,
                deployments_left=len(deployments) - position - 1,
                elapsed_s=op.elapsed_s,
            )
            match after(error, state, policy):
                case Retry(delay_s=delay):
                    await asyncio.sleep(delay)
                    retries_here, kind = retries_here + 1, _later(op, "retry")
                case NextDeployment():
                    position, retries_here, kind = position + 1, 0, _later(op, "fallback")
                case GiveUp():
                    raise


def _later(op: Operation, kind: Kind) -> Kind:
    """A search stays a search, whichever attempt it is."""
    return "search" if op.first_kind == "search" else kind
