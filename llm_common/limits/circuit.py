"""When a deployment that keeps failing is left alone. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace

FAILURES = 5
"""Failures in a row that open a circuit; the three attempts of one operation alone never do."""
OPEN_S = 30.0
"""How long it stays open: long enough to spare a provider that restarts, and the timeouts, each
of which is charged as estimated; short enough to be back with it."""
TRIAL_POLL_S = 1.0
"""How soon to look again while another request tries whether the deployment is back."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """How a deployment has fared lately; times are of one clock, in seconds.

    Attributes:
        failures: in a row; an answer of any kind ends the row.
        open_until: it is left alone until then; 0 while the circuit is closed.
        trial_until: a request that tries it is out until then at the latest; 0 if none is.
    """

    failures: int = 0
    open_until: float = 0.0
    trial_until: float = 0.0


CLOSED = Circuit()


def wait_s(circuit: Circuit, now: float) -> float:
    """Return how long a request has to wait: 0 lets it through."""
    if not circuit.open_until:
        return 0.0
    if now < circuit.open_until:
        return circuit.open_until - now
    return min(TRIAL_POLL_S, max(circuit.trial_until - now, 0.0))


def entered(circuit: Circuit, now: float, timeout_s: float) -> Circuit:
    """Note that a request was let through: behind an open circuit it is the one trial."""
    return replace(circuit, trial_until=now + timeout_s) if circuit.open_until else circuit


def failed(circuit: Circuit, now: float) -> Circuit:
    """Note a failure; requests that were under way when the circuit opened do not prolong it."""
    failures = circuit.failures + 1
    if failures < FAILURES:
        return Circuit(failures)
    return Circuit(failures, circuit.open_until if now < circuit.open_until else now + OPEN_S)


def left(circuit: Circuit) -> Circuit:
    """Note that a request ended without saying how the deployment is, such as by a cancel."""
    return replace(circuit, trial_until=0.0) if circuit.trial_until else circuit
