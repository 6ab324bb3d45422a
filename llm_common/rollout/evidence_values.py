"""E-values: evidence that may be looked at after every outcome. Pure functions of counts.

An e-value of a hypothesis is a number whose mean is at most 1 while the hypothesis holds. Those
here are capitals of a gambler who bets against it outcome by outcome: by Ville's inequality such a
capital ever reaches 1 / alpha with a probability of at most alpha, however often one looks and
whenever one stops. A mean of several capitals is one as well; so a mixture over a fixed grid needs
no tuning to the true alternative.

Sources: Ville (1939) for the inequality; Wasserman, Ramdas and Balakrishnan, "Universal
inference" (PNAS 2020) for `above_control`; Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting" (JRSS B 2024) for `staked`; Lindon and Malek, "Anytime-valid inference
for multinomial count data" (NeurIPS 2022) for `off_share`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, reduce
from itertools import accumulate

POINTS = 24
"""Points of each grid. More gain nothing that shows in the simulations."""
LOWEST_CONTROL = 0.1
"""The lowest rate of the control on the grid, as a part of the threshold."""
STAKES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the capital staked on each pair of costs; below 1, so that no pair ruins the gambler."""
START = (1.0,) * len(STAKES)
TIGHTNESS = 100.0
"""How near the assigned share a wrong share is thought to lie, as so many units seen before."""
_MOST_LOG = 690.0
"""Logarithms are cut here, below what a float holds. A smaller e-value is still an e-value."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """Rates by their logarithms.

    Attributes:
        hit: log of each rate; `miss`: log of one minus it.
    """

    hit: tuple[float, ...]
    miss: tuple[float, ...]

    def likelihoods(self, trials: int, hits: int) -> list[float]:
        """Return the log-likelihood of the counts at each rate."""
        misses = trials - hits
        pairs = zip(self.hit, self.miss, strict=True)
        return [hits * hit + misses * miss for hit, miss in pairs]


@lru_cache(maxsize=32)
def _grid(lowest: float) -> _Grid:
    """Return rates between the lowest and 1, evenly spaced by their logarithms.

    That is the density 1 / p, the limit of Beta(a, 1) for a towards 0, cut off below `lowest`.
    """
    rates = [lowest ** (1 - (i + 0.5) / POINTS) for i in range(POINTS)]
    return _Grid(tuple(map(math.log, rates)), tuple(math.log1p(-rate) for rate in rates))


def above_threshold(trials: int, hits: int, threshold: float) -> float:
    """Return the evidence that hits are more frequent than a threshold.

    The hypothesis that it speaks against: each trial, given those before it, hits with a
    probability of at most `threshold`. For a rate p above the threshold t, one trial multiplies
    the capital by p / t if it hits and by (1 - p) / (1 - t) if not, whose mean is at most 1 under
    the hypothesis. The result is the mean over rates p between t and 1.
    """
    grid = _grid(threshold)
    at_threshold = hits * math.log(threshold) + (trials - hits) * math.log1p(-threshold)
    return _exp(_log_mean(grid.likelihoods(trials, hits)) - at_threshold)


def above_control(
    trials: int, hits: int, control_trials: int, control_hits: int, threshold: float
) -> float:
    """Return the evidence that hits are more frequent than in a concurrent control.

    The hypothesis that it speaks against: each outcome, given those before it and its arm, hits
    with the one rate of its arm, and the new arm's rate is at most the control's. Universal
    inference: a likelihood mixed over pairs of rates (the new arm's above the threshold, the
    control's below the new arm's), divided by the greatest likelihood under the hypothesis.
    Divided by the likelihood at the true rates the mixture would be a capital with mean 1; the
    greatest is no smaller, so this is at most that capital. How many outcomes each arm gets may
    depend on the past: the probability of the arm itself cancels.

    Where the rates of both arms change alike during the epoch, as in an outage, the hypothesis
    does not hold to the letter. The simulations in the tests cover that case.
    """
    above = _grid(threshold).likelihoods(trials, hits)
    control = _grid(threshold * LOWEST_CONTROL)
    below = control.likelihoods(control_trials, control_hits)
    mixed = _log_mixture(above, below, _below_each(threshold))
    return _exp(mixed - _log_greatest(trials, hits, control_trials, control_hits))


def staked(capitals: Sequence[float], excess: float) -> tuple[float, ...]:
    """Return what each of the capitals becomes by one pair of costs; `excess` is in [-1, 1]."""
    return tuple(
        [c * (1 + stake * excess) for c, stake in zip(capitals, STAKES, strict=True)]  # list: speed
    )


def dearer(excesses: Iterable[float]) -> float:
    """Return the evidence that the excesses are above 0 in the mean.

    The hypothesis that it speaks against: the mean of each excess, given those before it, is at
    most 0. Staking the part l multiplies the capital by 1 + l * excess, whose mean is then at
    most 1. The result is the mean over `STAKES`.
    """
    return worth(reduce(staked, excesses, START))


def worth(capitals: Sequence[float]) -> float:
    """Return the e-value of capitals that started at `START`."""
    return min(sum(capitals) / len(capitals), math.exp(_MOST_LOG))


def excess(new: Decimal, old: Decimal, ratio: Decimal) -> float:
    """Return (new - ratio * old) / (new + ratio * old), from -1 to 1, and 0 if both cost nothing.

    Amounts are compared exactly; the quotient has no unit, and only feeds a probability, so it
    may be a float.
    """
    allowed = ratio * old
    total = new + allowed
    return float((new - allowed) / total) if total else 0.0


def off_share(shares: Iterable[tuple[int, int, int]]) -> float:
    """Return the evidence that units do not land in the new arm as often as was assigned.

    Each of `shares` is a share of the new arm in basis points, the units that it sent to the new
    arm and those that it sent to the old one. The hypothesis that it speaks against: each unit
    lands in the new arm with the share in force for it. Per share the capital is the likelihood,
    mixed over Beta(c * s, c * (1 - s)) with c = `TIGHTNESS`, divided by that at s; units under
    different shares are different trials, so their capitals multiply.
    """
    return _exp(sum(_log_off_share(*each) for each in shares))


def _log_off_share(basis_points: int, new: int, old: int) -> float:
    share = basis_points / 10_000
    a, b = TIGHTNESS * share, TIGHTNESS * (1 - share)
    mixed = _log_beta(a + new, b + old) - _log_beta(a, b)
    return mixed - new * math.log(share) - old * math.log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@lru_cache(maxsize=32)
def _below_each(threshold: float) -> tuple[int, ...]:
    """Return, for each rate above the threshold, how many rates of the control's grid are below."""
    control = _grid(threshold * LOWEST_CONTROL).hit
    return tuple(sum(rate < above for rate in control) for above in _grid(threshold).hit)


def _log_mixture(above: list[float], below: list[float], counts: Sequence[int]) -> float:
    """Return the log of the mean over `above`, each times the mean of its first rates of `below`.

    What underflows counts as 0, which only lessens the evidence.
    """
    most_above, most_below = max(above), max(below)
    sums = list(accumulate(math.exp(each - most_below) for each in below))
    mixed = sum(
        math.exp(each - most_above) * sums[count - 1] / count
        for each, count in zip(above, counts, strict=True)
    )
    return most_above + most_below + math.log(mixed / len(above)) if mixed else -math.inf


def _log_greatest(trials: int, hits: int, control_trials: int, control_hits: int) -> float:
    """Return the log of the greatest likelihood with the new arm's rate at most the control's."""
    if hits * control_trials <= control_hits * trials:
        return _log_peak(trials, hits) + _log_peak(control_trials, control_hits)
    return _log_peak(trials + control_trials, hits + control_hits)


def _log_peak(trials: int, hits: int) -> float:
    """Return the log of the greatest likelihood of the counts."""
    misses = trials - hits
    if not hits or not misses:
        return 0.0
    return hits * math.log(hits / trials) + misses * math.log(misses / trials)


def _log_mean(logs: Sequence[float]) -> float:
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))


def _exp(log: float) -> float:
    return math.exp(min(log, _MOST_LOG))
