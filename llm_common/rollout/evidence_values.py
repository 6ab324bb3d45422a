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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, reduce
from itertools import accumulate

from .buckets import BUCKETS

POINTS = 32
"""Points of each grid of rates. With more of them the e-values hardly change."""
FALL = 3
"""How fast the weight of a rate falls towards 1, where a few outcomes prove it anyway."""
TOP_LOGIT = 5.0
"""The log-odds at which a grid ends, a rate of 0.993."""
LOWEST_CONTROL = 0.1
"""The lowest rate of the control on the grid, as a part of the threshold."""
STAKES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the capital staked on each pair of costs; below 1, so that no pair ruins the gambler."""
START = (1.0,) * len(STAKES)
SCALE = 2
"""Costs beyond so many times the dearest of the control are cut off: one outcome proves little."""
TIGHTNESS = 100.0
"""How near the assigned share a wrong share is thought to lie, as so many units seen before."""
_MOST_LOG = 690.0
"""Logarithms are cut here, below what a float holds. A smaller e-value is still an e-value."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """Rates by their logarithms.

    Attributes:
        hit: log of each rate; `miss`: log of one minus it.
        weight: of each rate in a mixture; their sum is 1.
    """

    hit: tuple[float, ...]
    miss: tuple[float, ...]
    weight: tuple[float, ...]

    def likelihoods(self, trials: int, hits: int) -> list[float]:
        """Return the log-likelihood of the counts at each rate."""
        misses = trials - hits
        pairs = zip(self.hit, self.miss, strict=True)
        return [hits * hit + misses * miss for hit, miss in pairs]


@lru_cache(maxsize=32)
def _grid(lowest: float) -> _Grid:
    """Return rates between the lowest and 1, weighted as by a Beta(0, `FALL`) cut off below it.

    Its density is (1 - p)**(FALL - 1) / p: it favours rates just above the lowest, which take
    longest to prove. The points are even in the log-odds, which makes their weights one power
    of 1 - p higher; so they lie close together near 1 as well.
    """
    bottom = math.log(lowest / (1 - lowest))
    step = (max(TOP_LOGIT, bottom + 1) - bottom) / POINTS
    rates = [1 / (1 + math.exp(-bottom - step * (i + 0.5))) for i in range(POINTS)]
    total = sum((1 - rate) ** FALL for rate in rates)
    return _Grid(
        tuple(math.log(rate) for rate in rates),
        tuple(math.log1p(-rate) for rate in rates),
        tuple((1 - rate) ** FALL / total for rate in rates),
    )


def above_threshold(trials: int, hits: int, threshold: float) -> float:
    """Return the evidence that hits are more frequent than a threshold.

    The hypothesis that it speaks against: each trial, given those before it, hits with a
    probability of at most `threshold`. For a rate p above the threshold t, one trial multiplies
    the capital by p / t if it hits and by (1 - p) / (1 - t) if not, whose mean is at most 1 under
    the hypothesis. The result is the mean over rates p between t and 1.
    """
    grid = _grid(threshold)
    at_threshold = hits * math.log(threshold) + (trials - hits) * math.log1p(-threshold)
    mixed = _log_mean(grid.likelihoods(trials, hits), grid.weight)
    return _exp(mixed - at_threshold)


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
    above, below = _grid(threshold), _grid(threshold * LOWEST_CONTROL)
    logs = above.likelihoods(trials, hits)
    control = below.likelihoods(control_trials, control_hits)
    most = max(control)
    # What underflows counts as nothing, which only lessens the evidence.
    parts = [math.exp(log - most) * w for log, w in zip(control, below.weight, strict=True)]
    sums, weights = list(accumulate(parts)), list(accumulate(below.weight))
    means = [sums[count - 1] / weights[count - 1] for count in _below_each(threshold)]
    given = [w * mean for w, mean in zip(above.weight, means, strict=True)]
    mixed = most + _log_mean(logs, given)
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


def excesses(pairs: Iterable[tuple[Decimal, Decimal]], ratio: Decimal) -> Iterator[float]:
    """Yield how far each cost of the new arm is beyond the ratio, from -1 to 1.

    That is new - ratio * old, as a part of what the dearest outcome of the control before it would
    allow `SCALE` times over, cut off at 1 and -1. So amounts add up as they do in the means: it is
    not a mean of ratios, which skewed costs would lift. Where new / ratio and old have one
    distribution the excess is as often above 0 as below, cut off or not, and its mean is 0. The
    first pair only sets the scale. Amounts are compared exactly; the quotient has no unit and only
    feeds a probability, so it may be a float.
    """
    dearest = Decimal(0)
    for count, (new, old) in enumerate(pairs):
        beyond = new - ratio * old
        allowed = SCALE * ratio * dearest
        if count == 0:
            yield 0.0
        elif abs(beyond) >= allowed:
            yield float((beyond > 0) - (beyond < 0))
        else:
            yield float(beyond / allowed)
        dearest = max(dearest, old)


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
    share = basis_points / BUCKETS
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


def _log_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """Return the log of the weighted sum of what the logs stand for."""
    most = max(logs)
    total = sum(math.exp(log - most) * w for log, w in zip(logs, weights, strict=True))
    return most + math.log(total) if total else -math.inf


def _exp(log: float) -> float:
    return math.exp(min(log, _MOST_LOG))
