"""What this process knows of its lanes: one object for all threads, changed under one lock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import (
    CallError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)
from ..types import Lane, Standing
from .circuit import CLOSED, Circuit, entered, failed, left, wait_s
from .meter import Meter

COOL_S = 1.0
"""Cooldown after a 429 that names no time: enough for a call that follows to take another key."""
QUOTA_COOL_S = 60.0
"""The same of a key whose credit is used up: looking again costs a request a minute."""
LONGEST_COOL_S = 3600.0
"""A provider that names a longer time is asked again after an hour."""
KEPT_LANES = 4096
"""Hosts with keys of their users see many lanes; those that are at rest are forgotten."""

_TROUBLE = (ProviderUnavailableError, ProviderTimeoutError)


@dataclass(slots=True)
class LaneState:
    """How one lane is doing; times are `time.monotonic`."""

    cool_until: float = 0.0
    circuit: Circuit = CLOSED
    in_flight: int = 0
    last_used: float = 0.0

    def is_at_rest(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self.in_flight == 0 and self.cool_until <= now and self.circuit == CLOSED


@dataclass(slots=True)
class Gate:
    """Lanes and meters of this process.

    Attributes:
        instance: names this process to the others of the project.
    """

    instance: str
    lanes: dict[str, LaneState] = field(default_factory=dict[str, LaneState])
    meters: dict[str, Meter] = field(default_factory=dict[str, Meter])
    shared: dict[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    lock: threading.Lock = field(default_factory=threading.Lock)
    clock: Callable[[], float] = time.monotonic

    def standings(self, lanes: Sequence[Lane], tokens: int) -> list[Standing]:
        """Say how lanes stand for a request of so many tokens."""
        now = self.clock()
        with self.lock:
            return [self._standing(lane, tokens, now) for lane in lanes]

    def enter(self, lane: Lane, timeout_s: float) -> bool:
        """Note that a request is about to be sent; False if another one is the lane's trial."""
        now = self.clock()
        with self.lock:
            state = self._state(lane.id, now)
            if wait_s(state.circuit, now) > 0:
                return False
            state.circuit = entered(state.circuit, now, timeout_s)
            state.in_flight += 1
            state.last_used = now
            return True

    def leave(self, lane: Lane, error: BaseException | None, *, sent: bool) -> None:
        """Note how a request ended; an answer of any kind closes the circuit."""
        now = self.clock()
        with self.lock:
            state = self._state(lane.id, now)
            state.in_flight = max(state.in_flight - 1, 0)
            if isinstance(error, _TROUBLE) and sent:
                state.circuit = failed(state.circuit, now)
            elif sent and (error is None or isinstance(error, CallError)):
                state.circuit = CLOSED
            else:
                state.circuit = left(state.circuit)

    def cool(self, lane_id: str, seconds: float) -> None:
        """Leave a lane alone for so long, if it is not already for longer."""
        now = self.clock()
        with self.lock:
            state = self._state(lane_id, now)
            state.cool_until = max(state.cool_until, now + min(seconds, LONGEST_COOL_S))

    def meter(self, meter_id: str) -> Meter:
        """Return the meter of a key, made when it is first asked for."""
        with self.lock:
            return self.meters.setdefault(meter_id, Meter(meter_id))

    def _standing(self, lane: Lane, tokens: int, now: float) -> Standing:
        state = self.lanes.get(lane.id)
        limited_s = 0.0
        for meter_id, limits in lane.meters:
            if meter_id in self.meters:
                limited_s = max(limited_s, self.meters[meter_id].wait_s(limits, tokens, now))
        if state is None:
            return Standing(limited_s=limited_s)
        open_s = wait_s(state.circuit, now)
        cool_s = max(state.cool_until - now, 0.0)
        load = (state.in_flight, state.last_used)
        return Standing(max(open_s, cool_s), limited_s, load, down=open_s > cool_s)

    def _state(self, lane_id: str, now: float) -> LaneState:
        state = self.lanes.get(lane_id)
        if state is None:
            if len(self.lanes) >= KEPT_LANES:
                kept = {k: s for k, s in self.lanes.items() if not s.is_at_rest(now)}
                self.lanes = kept
            state = self.lanes[lane_id] = LaneState()
        return state


def cooldown_s(error: BaseException) -> float:
    """Return for how long an error keeps its lane from being used; 0 for most. Pure."""
    if not isinstance(error, RateLimitedError):
        return 0.0
    default = QUOTA_COOL_S if isinstance(error, QuotaExhaustedError) else COOL_S
    return default if error.retry_after_s is None else error.retry_after_s


_gates: list[Gate] = []
_guard = threading.Lock()


def gate() -> Gate:
    """Return the gate of this process; a forked child has one of its own."""
    with _guard:
        if not _gates:
            _gates.append(Gate(os.urandom(8).hex()))
        return _gates[0]


def forget() -> None:
    """Begin anew, as a forked child does, or a test whose server took the last one's port."""
    global _guard  # noqa: PLW0603 - another thread may have held it in the parent
    _guard = threading.Lock()
    _gates.clear()


os.register_at_fork(after_in_child=forget)
