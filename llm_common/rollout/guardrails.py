"""When a rollout goes back, holds or advances: so far by failures in a row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class ArmTally:
    """What one arm did in an epoch."""

    units: Mapping[int, int]
    finished: int = 0
    errors: int = 0
    slow: int = 0
    due: int = 0
    lost: int = 0
    vanished: int = 0
    costs: Sequence[Decimal] = ()
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """Both arms."""

    new: ArmTally
    old: ArmTally
    failures_in_a_row: int
    has_control: bool
    seconds: float = 0


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The bounds."""

    error_rate: float = 0.05
    p95_s: float = 20.0
    cost_ratio: float = 2.0
    min_exposures: int = 20
    failures_in_a_row: int = 5


class State(StrEnum):
    """How a finding stands."""

    OK = "ok"
    INCONCLUSIVE = "inconclusive"
    UNKNOWN = "unknown"
    TRIPPED = "tripped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one guardrail sees."""

    name: str
    state: State
    new: float | None
    old: float | None
    evidence: float | None
    text: str


Action = Literal["advance", "hold", "roll_back"]


def findings(tally: Tally, guardrails: Guardrails) -> tuple[Finding, ...]:
    """Judge a tally."""
    bad = tally.failures_in_a_row >= guardrails.failures_in_a_row
    return (
        Finding(
            "failures_in_a_row",
            State.TRIPPED if bad else State.OK,
            tally.failures_in_a_row,
            None,
            None,
            f"{tally.failures_in_a_row} failures in a row",
        ),
    )


def decide(
    found: Sequence[Finding], tally: Tally, *, min_exposures: int, min_seconds: float
) -> tuple[Action, str]:
    """Return what to do and why."""
    for f in found:
        if f.state is State.TRIPPED:
            return "roll_back", f.text
    if tally.new.finished < min_exposures or tally.seconds < min_seconds:
        return "hold", "few"
    return "advance", "well"
