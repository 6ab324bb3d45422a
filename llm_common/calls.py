"""One operation = attempts of admit -> reserve -> send -> settle; model calls and searches alike.

Which deployment is next and what follows a failure is decided by `routing` alone; this module
waits, sends and writes down. Whatever waits for a rate limit waits before anything is reserved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Generic, Literal, Protocol, TypeVar
from uuid import uuid4

from .context import Labels, note_cost
from .cost_tracker import ESTIMATED, CostTracker, Hold, Intent, Kind, Limit, Outcome
from .errors import CallError, ContextLengthError, RateLimitedError
from .limits import Entry, Shared, Ticket, admit, down, gate, limited, shared_for
from .pricing import Cost, Price, cost_of
from .routing import (
    AttemptState,
    GiveUp,
    NextDeployment,
    Policy,
    Refuse,
    Retry,
    Send,
    Wait,
    after,
    choose,
)
from .telemetry import Observation, started
from .types import Lane, Usage


class Reachable(Protocol):
    """Something that an operation can be sent to."""

    @property
    def lane(self) -> Lane:
        """What its rate limits, cooldowns and circuits go by."""
        ...


R = TypeVar("R")
D = TypeVar("D", bound=Reachable)
OperationName = Literal["chat", "embeddings", "web_search"]

LOOK_S = 1.0
"""While every deployment is to be left alone, how often to look whether one is free after all."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an attempt goes and the most that it can cost.

    Attributes:
        bound_nano: upper bound in nano-dollars; None when the price is unknown.
        tokens: upper bound of input and output.
        ceiling: the most that it can cost where the price is unknown, if the host says so.
    """

    provider: str
    model: str
    key_alias: str | None
    price: Price | None
    bound_nano: int | None
    lane: Lane
    tokens: int = 0
    ceiling: Price | None = None


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
    """One call of a caller: its labels, and its attempts and cost so far.

    Attributes:
        lane: id of the lane that was tried last.
        left_behind: ids of the lanes that it has moved on from.
        tokens: the most that its latest attempt could use.
        wall_time_s: how long it may take, waiting included.
    """

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
    lane: str | None = None
    left_behind: set[str] = field(default_factory=set[str])
    tokens: int = 1
    wall_time_s: float = Policy().wall_time_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the operation began."""
        return time.monotonic() - self.started

    @property
    def shared(self) -> Shared:
        """What the processes of its project know together."""
        project = self.labels.project or self.tracker.project
        return shared_for(gate(), self.tracker.db, project)

    async def admit(self, target: Target) -> Ticket:
        """Wait until the next attempt may be sent; see `limits.admit`."""
        self.tokens = target.tokens
        entry = None
        if target.lane.meters:
            deadline = self.started + self.wall_time_s
            entry = Entry(target.tokens, deadline, self.shared, self.tracker.db)
        return await admit(target.lane, self.timeout_s, entry)

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
            limits=(*self.limits, *labels.limits),
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
        note_cost(cost)
        if self.seen is not None:
            self.seen.settled(outcome, cost, time.monotonic() - hold.started)
        self.cost_usd = None if self.cost_usd is None or cost is None else self.cost_usd + cost
        self.cost_source = ESTIMATED if outcome.estimate else outcome.cost_source


async def attempt(
    op: Operation, target: Target, kind: Kind, send: Callable[[], Awaitable[Answer[R]]]
) -> Answer[R]:
    """Admit, reserve, send once, settle; whatever happens, the ledger has what was reserved.

    Raises:
        BudgetError, SpoolError, DatabaseError: refused; nothing was sent.
        CallError: the attempt failed, or its answer is of no use.
    """
    with await op.admit(target) as ticket:
        hold = await op.reserve(target, kind)
        ticket.sent = True
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
        ticket.tokens = _used(answer)
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
    """Admit, reserve, send once, pass on what arrives, settle; see `attempt`.

    It settles when the stream ends, when it breaks and when its reader leaves it; until then it
    counts as in flight.

    Args:
        items: sends when its first item is asked for.
        arrived: what is known of the answer by now; asked once, at the end.
    """
    with await op.admit(target) as ticket:
        hold = await op.reserve(target, kind)
        ticket.sent = True
        async with aclosing(items):
            try:
                async for item in items:
                    yield item
            except BaseException as error:
                op.settle(hold, _broken_off(arrived(), error, target))
                raise
            answer = arrived()
            op.settle(hold, _answered(answer, target))
        ticket.tokens = _used(answer)
        if answer.fault is not None:
            raise answer.fault


def _used(answer: Answer[Any]) -> int | None:
    return None if answer.usage is None else answer.usage.total_tokens


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
    price = target.price or target.ceiling
    cost = _cost(answer, target)
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


def _cost(answer: Answer[Any], target: Target) -> Cost:
    """Cost an answer; under a ceiling an unknown price counts as that, and says so."""
    cost = cost_of(answer.usage, target.price, answer.reported_usd, target.provider)
    if cost.usd is not None or target.ceiling is None or target.price is not None:
        return cost
    most = cost_of(answer.usage, target.ceiling, provider=target.provider)
    return cost if most.usd is None else Cost(most.usd, ESTIMATED)


async def operate(
    op: Operation,
    deployments: Sequence[D],
    try_one: Callable[[D, Kind], Awaitable[R]],
    policy: Policy,
) -> R:
    """Try deployments until one answers: `routing.choose` takes them, `routing.after` goes on.

    An operation that asks again keeps to the deployment that answered, and does not go back to
    one that it has moved on from.

    Raises:
        CallError: of the last attempt, when there is nothing left to try; without an attempt,
            when every deployment is to be left alone for too long.
    """
    op.wall_time_s = policy.wall_time_s
    kind, retries_here = op.first_kind, 0
    deployment = await _next(op, deployments, policy)
    if isinstance(deployment, CallError):
        raise deployment
    while True:
        op.lane = deployment.lane.id
        try:
            return await try_one(deployment, kind)
        except CallError as error:
            # Whoever was limited by us has nothing to tell.
            if error.status is not None and isinstance(error, RateLimitedError):
                await op.shared.announce(op.tracker.db, deployment.lane, error.retry_after_s or 0.0)
            state = _state(op, deployments, deployment.lane, retries_here)
            match after(error, state, policy):
                case Retry(delay_s=delay):
                    await asyncio.sleep(delay)
                case NextDeployment():
                    op.left_behind |= _left_behind(deployments, deployment.lane, error)
                case GiveUp():
                    raise
            following = await _next(op, deployments, policy)
            if isinstance(following, CallError):
                raise
            again = following.lane.id == op.lane
            retries_here = retries_here + 1 if again else 0
            # A search that is tried again stays a search; at another engine it is a fallback.
            if op.attempts and not (again and op.first_kind == "search"):
                kind = "retry" if again else "fallback"
            deployment = following


async def _next(op: Operation, deployments: Sequence[D], policy: Policy) -> D | CallError:
    """Return the deployment whose turn it is, after a wait where all are to be left alone.

    Or else the error that says for how long: nothing is to be sent.
    """
    left = [each for each in deployments if each.lane.id not in op.left_behind]
    lanes = [each.lane for each in left]
    await op.shared.refresh(op.tracker.db, alone=len(lanes) == 1)
    while True:
        choice = choose(
            lanes,
            gate().standings(lanes, op.tokens),
            patience_s=policy.patience_s,
            remaining_s=policy.wall_time_s - op.elapsed_s,
            stay=op.lane,
        )
        match choice:
            case Send(place=place):
                return left[place]
            case Wait(delay_s=delay):
                await asyncio.sleep(min(delay, LOOK_S))
            case Refuse(retry_after_s=wait, down=is_down):
                if is_down:
                    return down(lanes[0], wait)
                return limited(lanes[0], "cools down", wait)


def _state(
    op: Operation, deployments: Sequence[Reachable], lane: Lane, retries_here: int
) -> AttemptState:
    gone = op.left_behind | {lane.id}
    others = [each.lane for each in deployments if each.lane.id not in gone]
    keys = [other for other in others if other.group == lane.group]
    free = [each for each in gate().standings(keys, op.tokens) if each.blocked_s <= 0]
    return AttemptState(
        attempts=op.attempts,
        retries_here=retries_here,
        deployments_left=len(others),
        elapsed_s=op.elapsed_s,
        free_keys=len(free),
        roomier_left=sum(other.context_tokens > lane.context_tokens for other in others),
    )


def _left_behind(deployments: Sequence[Reachable], lane: Lane, error: CallError) -> set[str]:
    """Return what a failure rules out for the rest of the operation: too long is too long."""
    if not isinstance(error, ContextLengthError):
        return {lane.id}
    return {each.lane.id for each in deployments if each.lane.context_tokens <= lane.context_tokens}
