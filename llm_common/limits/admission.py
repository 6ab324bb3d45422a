"""The way in: a request waits here until its rate limits have room, before anything is reserved."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from ..database import Database
from ..errors import ProviderUnavailableError, RateLimitedError
from ..types import Lane, RateLimits
from .circuit import TRIAL_POLL_S
from .gate import Gate, cooldown_s, gate
from .meter import Meter
from .shared import Shared
from .slots import POLL_S
from .window import Booking


@dataclass(frozen=True, slots=True)
class Entry:
    """What a request asks for.

    Attributes:
        tokens: the most that it can use.
        deadline: by `time.monotonic`; nothing is waited for beyond it.
        shared: what the project's processes share, over `db`.
    """

    tokens: int
    deadline: float
    shared: Shared
    db: Database


class Ticket:
    """A request that was let in; leaving the ``with`` block says how it ended.

    Attributes:
        sent: something went on the wire; otherwise nothing is counted.
        tokens: what it used, once that is known.
    """

    def __init__(self, lane: Lane) -> None:
        self.sent = False
        self.tokens: int | None = None
        self._lane = lane
        self._gate: Gate = gate()
        self._entered = False
        self._bookings: list[tuple[Meter, Booking]] = []
        self._slots: list[Meter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._entered:
            self._gate.leave(self._lane, error, sent=self.sent)
        if self.sent and error is not None and (seconds := cooldown_s(error)) > 0:
            self._gate.cool(self._lane.id, seconds)
        self.give_back()

    def give_back(self) -> None:
        """Free the slots, and settle the bookings by what was used."""
        for meter, booking in self._bookings:
            if not self.sent:
                meter.cancel(booking)
            elif self.tokens is not None:
                meter.correct(booking, self.tokens)
        for meter in self._slots:
            meter.slots.leave()
        self._bookings, self._slots = [], []

    async def pass_meter(self, entry: Entry, meter: Meter, limits: RateLimits) -> None:
        """Wait until one meter has room, and take it: first a slot, since its wait is unknown."""
        if limits.max_concurrent is not None:
            entry.shared.look_again(meter)
            grow = partial(entry.shared.grow, entry.db, meter, limits.max_concurrent, self._lane)
            capacity = partial(meter.capacity, limits.max_concurrent)
            if not await meter.slots.enter(capacity, entry.deadline, grow):
                why = f"all {limits.max_concurrent} slots are taken"
                raise limited(self._lane, why, POLL_S)
            self._slots.append(meter)
        if limits.rpm is not None or limits.tpm is not None:
            await self._book(entry, meter, limits)

    async def _book(self, entry: Entry, meter: Meter, limits: RateLimits) -> None:
        """Wait for this process's turn, then for the minute that all processes share."""
        while True:
            booking = meter.book(limits, entry.tokens, self._gate.clock())
            try:
                await self._until(booking.at, entry.deadline)
                wait_s = await entry.shared.take_rate(entry.db, meter, limits, booking, self._lane)
            except BaseException:
                meter.cancel(booking)
                raise
            if wait_s <= 0:
                self._bookings.append((meter, booking))
                return
            meter.cancel(booking)
            await self._until(self._gate.clock() + wait_s, entry.deadline)

    async def _until(self, moment: float, deadline: float) -> None:
        """Sleep until a moment, unless it comes too late."""
        wait_s = moment - self._gate.clock()
        if moment > deadline:
            raise limited(self._lane, "its rate limit is used up", wait_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def enter(self, timeout_s: float) -> None:
        """Pass the circuit.

        Raises:
            ProviderUnavailableError: another request is trying whether the provider is back.
        """
        self._entered = self._gate.enter(self._lane, timeout_s)
        if not self._entered:
            raise down(self._lane, TRIAL_POLL_S)


async def admit(lane: Lane, timeout_s: float, entry: Entry | None) -> Ticket:
    """Let a request in, after waiting for its rate limits.

    Args:
        timeout_s: of the request itself.
        entry: None where no rate limit applies: then nothing is waited for.

    Raises:
        RateLimitedError: there is no room in time; nothing was sent.
        ProviderUnavailableError: see `Ticket.enter`.
    """
    ticket = Ticket(lane)
    try:
        if entry is not None:
            for meter_id, limits in lane.meters:
                await ticket.pass_meter(entry, gate().meter(meter_id), limits)
        ticket.enter(timeout_s)
    except BaseException:
        ticket.give_back()
        raise
    return ticket


def limited(lane: Lane, why: str, retry_after_s: float) -> RateLimitedError:
    """Make the error for a request that was not let in."""
    provider, _, model = lane.group.partition("/")
    return RateLimitedError(
        f"{lane.label}: {why}; nothing was sent, there is room in {max(retry_after_s, 0):.1f} s",
        provider=provider,
        model=model,
        retry_after_s=retry_after_s,
    )


def down(lane: Lane, retry_after_s: float) -> ProviderUnavailableError:
    """Make the error for a lane whose circuit is open."""
    provider, _, model = lane.group.partition("/")
    return ProviderUnavailableError(
        f"{lane.label}: failed several times in a row; nothing was sent, "
        f"it is tried again in {retry_after_s:.1f} s",
        provider=provider,
        model=model,
        retry_after_s=retry_after_s,
    )
