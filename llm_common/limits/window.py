"""Requests and tokens of any sixty seconds: what was sent and what is booked ahead."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW_S = 60.0


@dataclass(slots=True)
class Booking:
    """A request at its time, with its tokens.

    Attributes:
        counts: its minute is not over, and it was not cancelled.
        lease: of the shared minute, where it was taken from one.
    """

    at: float
    tokens: int
    counts: bool = True
    lease: object = None


class Window:
    """A sliding window: at no time did the last sixty seconds hold more than the limits.

    A request that does not fit now is booked for the first moment at which it will; so requests
    keep their order, and each knows at once how long it has to wait. Not thread-safe by itself.
    """

    def __init__(self) -> None:
        self._bookings: deque[Booking] = deque()
        self._tokens = 0

    @property
    def requests(self) -> int:
        """Requests in the window, those booked ahead included."""
        return len(self._bookings)

    def earliest(self, rpm: int | None, tpm: int | None, tokens: int, now: float) -> float:
        """Return when a request of so many tokens fits; one above the limit fits alone."""
        self._forget(now)
        need = tokens if tpm is None else min(tokens, tpm)
        at = max(now, self._bookings[-1].at) if self._bookings else now
        count, used = len(self._bookings), self._tokens
        for booking in self._bookings:
            if (rpm is None or count < rpm) and (tpm is None or used + need <= tpm):
                break
            count, used = count - 1, used - booking.tokens
            at = max(at, booking.at + WINDOW_S)
        return at

    def book(self, rpm: int | None, tpm: int | None, tokens: int, now: float) -> Booking:
        """Book the earliest moment."""
        at = self.earliest(rpm, tpm, tokens, now)
        booking = Booking(at, tokens if tpm is None else min(tokens, tpm))
        self._bookings.append(booking)
        self._tokens += booking.tokens
        return booking

    def correct(self, booking: Booking, tokens: int) -> None:
        """Replace the tokens that a request was booked with by those that it used."""
        if booking.counts:
            self._tokens += tokens - booking.tokens
            booking.tokens = tokens

    def cancel(self, booking: Booking) -> None:
        """Forget a request that was not sent."""
        if booking.counts:
            # By identity: another may have the same figures.
            self._bookings = deque(each for each in self._bookings if each is not booking)
            self._drop(booking)

    def _forget(self, now: float) -> None:
        while self._bookings and self._bookings[0].at + WINDOW_S <= now:
            self._drop(self._bookings.popleft())

    def _drop(self, booking: Booking) -> None:
        self._tokens -= booking.tokens
        booking.counts = False
