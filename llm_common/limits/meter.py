"""What one key has used, and what this process may still use of what all share."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from ..types import RateLimits
from .slots import Slots
from .window import Booking, Window

FULL_S = 0.05
"""Standing in for the unknown time until a slot comes free: another key is taken if it has one."""


@dataclass(slots=True)
class Lease:
    """What the database has granted this process of a minute; None is without limit.

    Attributes:
        minute: which one, by the database's clock.
        until: its end, by `time.monotonic`.
    """

    requests: int | None
    tokens: int | None
    minute: int
    until: float

    def take(self, tokens: int, now: float) -> bool:
        """Take one request from it, if it is enough."""
        if now >= self.until:
            return False
        if self.requests is not None and self.requests < 1:
            return False
        if self.tokens is not None and self.tokens < tokens:
            return False
        self.requests = None if self.requests is None else self.requests - 1
        self.tokens = None if self.tokens is None else self.tokens - tokens
        return True

    def put_back(self, requests: int, tokens: int) -> None:
        """Take back what was not used after all."""
        self.requests = None if self.requests is None else self.requests + requests
        self.tokens = None if self.tokens is None else max(self.tokens + tokens, 0)


@dataclass(slots=True)
class Meter:
    """Use of one key, by one model or by all; times are `time.monotonic`.

    Attributes:
        id: hash of what is metered.
        lease: of the shared minute; None until one was taken.
        dry_until: the shared minute has no room until then for requests of `dry_tokens`.
        slots: requests in flight.
        granted: slots that the database has granted; None while they can't be shared.
        granted_until: when they are somebody else's, unless renewed.
    """

    id: str
    window: Window = field(default_factory=Window)
    lease: Lease | None = None
    dry_until: float = 0.0
    dry_tokens: int = 0
    slots: Slots = field(default_factory=Slots)
    granted: int | None = 0
    granted_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_s(self, limits: RateLimits, tokens: int, now: float) -> float:
        """Return how long a request of so many tokens would have to wait."""
        waits = [self.dry_s(tokens, now)]
        with self.lock:
            if limits.rpm is not None or limits.tpm is not None:
                waits.append(self.window.earliest(limits.rpm, limits.tpm, tokens, now) - now)
        if limits.max_concurrent is not None and self.slots.in_flight >= limits.max_concurrent:
            waits.append(FULL_S)
        return max(waits)

    def dry_s(self, tokens: int, now: float) -> float:
        """Return how long the shared minute has no room for a request, as far as is known."""
        return max(self.dry_until - now, 0.0) if tokens >= self.dry_tokens else 0.0

    def book(self, limits: RateLimits, tokens: int, now: float) -> Booking:
        """Book the earliest moment for a request."""
        with self.lock:
            return self.window.book(limits.rpm, limits.tpm, tokens, now)

    def cancel(self, booking: Booking) -> None:
        """Take a booking back, and what was leased for it: the request was not sent."""
        with self.lock:
            self.window.cancel(booking)
            if booking.lease is self.lease and self.lease is not None:
                self.lease.put_back(1, booking.tokens)

    def correct(self, booking: Booking, tokens: int) -> None:
        """Count the tokens that a request used in place of those it was booked with."""
        with self.lock:
            if booking.lease is self.lease and self.lease is not None:
                self.lease.put_back(0, booking.tokens - tokens)
            self.window.correct(booking, tokens)

    def take(self, booking: Booking, now: float) -> bool:
        """Take a request from the lease, if there is one that is enough."""
        with self.lock:
            if self.lease is None or not self.lease.take(booking.tokens, now):
                return False
            booking.lease = self.lease
            return True

    def give_up_lease(self, now: float) -> Lease | None:
        """Return what is left of the lease, to be handed back in exchange for another."""
        with self.lock:
            lease, self.lease = self.lease, None
            return lease if lease is not None and now < lease.until else None

    def capacity(self, limit: int) -> int:
        """Return how many requests may be in flight here."""
        if self.granted is None:
            return limit
        return min(limit, self.granted) if time.monotonic() < self.granted_until else 0
