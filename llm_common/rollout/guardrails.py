"""What becomes of a rollout, by what its two arms did. Pure functions, standard library only.

The tests are sequential: they may be asked after every outcome of an epoch, and the bounds below
hold for the epoch as a whole. A new epoch starts anew, and so do its bounds.

- `ALPHA` bounds the probability that one guardrail ever takes back a new arm whose true rate is at
  most its limit (errors, slow outcomes, lost outcomes), or whose costs are within the ratio.
- `CONTROL_ALPHA` bounds the probability that one of the three rates ever takes back a new arm
  whose true rate is above the limit, but no higher than the control's: an outage of a provider
  hits both arms and is not the new arm's fault. It is looser, since such a rollback is cheap and a
  late one is not: at 20 % errors against 3 %, with half of the units in each arm, the median
  rollback comes after 38 exposures of the new arm, not 55. Evidence that may be asked for at any
  time is cautious: of simulated rollouts with 20 % errors in both arms, 2 % are taken back.

A rate takes the new arm back only when both tests say so, which needs no correction: where either
hypothesis holds, the test of that hypothesis bounds the error alone (an intersection-union test).

All of it takes outcomes for independent given what came before. A single unit that always fails
counts as often as it asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from ..errors import InvalidInputError
from .buckets import BUCKETS
from .evidence_values import above_control, above_threshold, dearer, excesses, off_share
from .tally import ArmTally, Tally

__all__ = [
    "ALPHA",
    "CONTROL_ALPHA",
    "Action",
    "ArmTally",
    "Finding",
    "Guardrails",
    "State",
    "Tally",
    "decide",
    "findings",
]

ALPHA = 0.05
CONTROL_ALPHA = 0.25
SLOW_SHARE = 0.05
"""A P95 above its limit is a share of slow outcomes above this."""
LOST_SHARE = 0.01
PAIRS = 2
"""Costs take so many times `Guardrails.min_exposures` before they take an arm back."""
SUSPICION = 3.0
"""An e-value from which on a rollout waits, be the sums of the costs in proportion or not."""

Action = Literal["advance", "hold", "roll_back"]


@dataclass(frozen=True, slots=True)
class Guardrails:
    """The limits of a new arm.

    Attributes:
        error_rate: the greatest allowed part of failed outcomes, between 0 and 1.
        p95_s: seconds that at most one outcome in twenty may exceed.
        cost_ratio: how many times the control's cost an outcome may cost.
        min_exposures: outcomes of the new arm before a sequential test may take it back.
        failures_in_a_row: so many take it back at once.

    Raises:
        InvalidInputError: a limit that can't be.
    """

    error_rate: float = 0.05
    p95_s: float = 20.0
    cost_ratio: float = 2.0
    min_exposures: int = 20
    failures_in_a_row: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.error_rate < 1:
            raise InvalidInputError("error_rate must be between 0 and 1, such as 0.05 for 5 %.")
        for name in ("p95_s", "cost_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInputError(f"{name} must be a finite number above 0.")
        for name in ("min_exposures", "failures_in_a_row"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} must be at least 1.")


class State(StrEnum):
    """What one guardrail says; only OK lets a rollout advance, only TRIPPED takes it back.

    INCONCLUSIVE: too few outcomes, or a suspicion without proof. UNKNOWN: the figure could not be
    computed.
    """

    OK = "ok"
    INCONCLUSIVE = "inconclusive"
    UNKNOWN = "unknown"
    TRIPPED = "tripped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one guardrail found.

    Attributes:
        name: error_rate, latency_p95, cost, data_loss, failures_in_a_row or sample_ratio.
        new: what was observed in the new arm: a part of its outcomes; for the cost, the mean in
            USD, a float for display only; for the others, a number. None when it can't be said.
        old: the same of the control.
        evidence: the e-value against the new arm (for sample_ratio, against the assignment); for a
            rate it is the one against the limit. None where there is none.
        text: one sentence with the figures.
    """

    name: str
    state: State
    new: float | None
    old: float | None
    evidence: float | None
    text: str


@dataclass(frozen=True, slots=True)
class _Rate:
    """One kind of hit among the trials of both arms, and how it is called."""

    name: str
    described: str
    limit: float
    trials: int
    hits: int
    old_trials: int
    old_hits: int

    @property
    def new(self) -> float | None:
        return self.hits / self.trials if self.trials else None

    @property
    def old(self) -> float | None:
        return self.old_hits / self.old_trials if self.old_trials else None

    def finding(self, state: State, evidence: float | None, verdict: str) -> Finding:
        old = f", in the old arm {_part(self.old_hits, self.old_trials)}"
        counted = f"{_part(self.hits, self.trials)} {self.described}{old}"
        text = f"In the new arm {counted}; the limit is {100 * self.limit:g} %: {verdict}."
        return Finding(self.name, state, self.new, self.old, evidence, text)


def findings(tally: Tally, guardrails: Guardrails) -> tuple[Finding, ...]:
    """Return what each guardrail says, in a fixed order."""
    return (
        _failures_in_a_row(tally, guardrails.failures_in_a_row),
        _error_rate(tally, guardrails),
        _latency(tally, guardrails),
        _cost(tally, guardrails),
        _data_loss(tally, guardrails),
        _sample_ratio(tally),
    )


def decide(
    found: Sequence[Finding], tally: Tally, *, min_exposures: int, min_seconds: float
) -> tuple[Action, str]:
    """Return what to do, and the reason in a sentence.

    `min_exposures` are the outcomes of the new arm, and `min_seconds` the time, that the stage
    needs before the next one. Without findings nothing advances.
    """
    tripped = [f.text for f in found if f.state is State.TRIPPED]
    if tripped:
        return "roll_back", " ".join(tripped)
    open_ = [f.text for f in found if f.state is not State.OK]
    if open_:
        return "hold", " ".join(open_)
    if not found:
        return "hold", "No guardrail was computed."
    if tally.new.finished < min_exposures:
        seen = f"{tally.new.finished} of {min_exposures} outcomes"
        return "hold", f"The new arm has {seen} that the stage needs."
    if tally.seconds < min_seconds:
        return "hold", f"The stage is {tally.seconds:.0f} s old, of {min_seconds:.0f} s."
    return "advance", (
        f"Every guardrail is met after {tally.new.finished} outcomes of the new arm"
        f" and {tally.seconds:.0f} s."
    )


def _error_rate(tally: Tally, guardrails: Guardrails) -> Finding:
    new, old = tally.new, tally.old
    return _judged(
        _Rate("error_rate", "outcomes failed", guardrails.error_rate,
              new.finished, new.errors, old.finished, old.errors),
        tally.has_control, guardrails.min_exposures,
    )  # fmt: skip


def _latency(tally: Tally, guardrails: Guardrails) -> Finding:
    new, old = tally.new, tally.old
    described = f"outcomes took longer than {guardrails.p95_s:g} s"
    return _judged(
        _Rate("latency_p95", described, SLOW_SHARE,
              new.finished, new.slow, old.finished, old.slow),
        tally.has_control, guardrails.min_exposures,
    )  # fmt: skip


def _data_loss(tally: Tally, guardrails: Guardrails) -> Finding:
    """Judge the outcomes that never came.

    While few are due, those that are stored already show as well that outcomes get stored; only
    the due ones say how many don't.
    """
    new, old = tally.new, tally.old
    rate = _Rate("data_loss", "outcomes that are due were lost", LOST_SHARE,
                 new.due, new.lost, old.due, old.lost)  # fmt: skip
    if new.vanished:
        text = f"{new.vanished} outcomes of the new arm name a run that is gone."
        return Finding(rate.name, State.TRIPPED, rate.new, rate.old, None, text)
    if not new.lost and new.finished >= guardrails.min_exposures:
        return rate.finding(State.OK, None, "none is lost")
    found = _judged(rate, tally.has_control, guardrails.min_exposures)
    excused = tally.has_control and old.due and new.lost * old.due <= old.lost * new.due
    if found.state is State.OK and new.lost and not excused:
        verdict = "more than in the old arm"
        return rate.finding(State.INCONCLUSIVE, found.evidence, verdict)
    return found


def _judged(rate: _Rate, has_control: bool, min_exposures: int) -> Finding:
    """Judge one rate by both tests, or without control by the first alone."""
    if rate.trials < min_exposures:
        return rate.finding(State.INCONCLUSIVE, None, f"too few, {min_exposures} are needed")
    evidence = above_threshold(rate.trials, rate.hits, rate.limit)
    proven = evidence >= 1 / ALPHA
    if proven and not has_control:
        return rate.finding(State.TRIPPED, evidence, f"proven (e-value {evidence:.3g})")
    if proven:
        worse = above_control(rate.trials, rate.hits, rate.old_trials, rate.old_hits, rate.limit)
        if worse >= 1 / CONTROL_ALPHA:
            verdict = f"proven (e-values {evidence:.3g}, against the old arm {worse:.3g})"
            return rate.finding(State.TRIPPED, evidence, verdict)
        verdict = f"above it, but not proven worse than the old arm (e-value {worse:.3g})"
        return rate.finding(State.INCONCLUSIVE, evidence, verdict)
    if rate.hits > rate.limit * rate.trials:  # without which no evidence exceeds 1
        verdict = f"not proven yet (e-value {evidence:.3g})"
        return rate.finding(State.INCONCLUSIVE, evidence, verdict)
    return rate.finding(State.OK, evidence, "within it")


def _cost(tally: Tally, guardrails: Guardrails) -> Finding:
    """Judge pairs of costs: the i-th known one of the new arm beside the i-th of the control.

    It takes more pairs than a rate takes outcomes, since the first ones tell the scale. Where the
    sums are out of proportion without proof, the rollout waits.
    """
    needed = PAIRS * guardrails.min_exposures
    new, old = tally.new, tally.old
    pairs = list(zip(new.costs, old.costs, strict=False))
    unpriced = f"; {new.unpriced} of its outcomes have no known cost" if new.unpriced else ""

    def finding(state: State, evidence: float | None, verdict: str) -> Finding:
        text = (
            f"In the old arm an outcome cost {_usd(old.costs)}, in the new arm {_usd(new.costs)};"
            f" {guardrails.cost_ratio:g} times is the limit: {verdict}{unpriced}."
        )
        return Finding("cost", state, _mean(new.costs), _mean(old.costs), evidence, text)

    if new.finished < guardrails.min_exposures:
        return finding(State.INCONCLUSIVE, None, _too_few(new.finished, guardrails))
    if len(pairs) < guardrails.min_exposures:
        seen = f"{len(pairs)} pairs of known costs, {guardrails.min_exposures} are needed"
        return finding(State.UNKNOWN, None, seen)
    ratio = Decimal(str(guardrails.cost_ratio))
    evidence = dearer(excesses(pairs, ratio))
    beyond = sum(pair[0] for pair in pairs) > ratio * sum(pair[1] for pair in pairs)
    if evidence >= 1 / ALPHA and beyond and len(pairs) >= needed:
        return finding(State.TRIPPED, evidence, f"proven (e-value {evidence:.3g})")
    if beyond or evidence >= SUSPICION:
        return finding(State.INCONCLUSIVE, evidence, f"not proven yet (e-value {evidence:.3g})")
    return finding(State.OK, evidence, "within it")


def _failures_in_a_row(tally: Tally, limit: int) -> Finding:
    row = tally.failures_in_a_row
    state = State.TRIPPED if row >= limit else State.OK
    text = f"The latest {row} outcomes of the new arm failed in a row; {limit} are too many."
    return Finding("failures_in_a_row", state, float(row), None, None, text)


def _sample_ratio(tally: Tally) -> Finding:
    """Judge how units fell to the arms; a mismatch tells of a fault in counting, not of the arm."""
    new, old = tally.new.units, tally.old.units
    seen, rest = sum(new.values()), sum(old.values())
    name = "sample_ratio"
    if not tally.has_control:
        text = "Every unit is shown the new arm: there is no share to compare."
        return Finding(name, State.OK, float(seen), None, None, text)
    if not seen + rest:
        state = State.UNKNOWN if tally.new.finished else State.INCONCLUSIVE
        return Finding(name, state, None, None, None, "No unit was counted in either arm.")
    shares = sorted(new.keys() | old.keys())
    counted = [(share, new.get(share, 0), old.get(share, 0)) for share in shares]
    expected = sum(share * (ours + theirs) for share, ours, theirs in counted) / BUCKETS
    evidence = off_share(counted)
    text = f"{seen} of {seen + rest} units were shown the new arm, {expected:.1f} were expected"
    if evidence >= 1 / ALPHA:
        text = f"{text}: exposures are lost or counted wrongly (e-value {evidence:.3g})"
    state = State.INCONCLUSIVE if evidence >= 1 / ALPHA else State.OK
    return Finding(name, state, float(seen), float(rest), evidence, f"{text}.")


def _part(hits: int, trials: int) -> str:
    return f"{hits} of {trials} ({100 * hits / trials:.1f} %)" if trials else "0 of 0"


def _mean(costs: Sequence[Decimal]) -> float | None:
    return float(sum(costs) / len(costs)) if costs else None


def _usd(costs: Sequence[Decimal]) -> str:
    return f"{sum(costs) / len(costs):.3g} USD in the mean" if costs else "an unknown amount"


def _too_few(finished: int, guardrails: Guardrails) -> str:
    return f"{finished} outcomes are too few, {guardrails.min_exposures} are needed"
