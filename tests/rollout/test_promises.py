"""What the guardrails promise, on thousands of simulated rollouts with a fixed seed.

Each rollout is looked at after every outcome of the new arm. Nothing is computed where the answer
is known: only a hit adds evidence against a rate, no e-value exceeds the greatest likelihood
ratio, and a capital staked on costs never exceeds an exponential of their sum. The tests of the
e-values hold the first two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import accumulate
from math import exp, log
from random import Random
from statistics import median

import pytest

from llm_common.rollout.evidence_values import (
    STAKES,
    START,
    excesses,
    off_share,
    staked,
    worth,
)
from llm_common.rollout.guardrails import (
    ALPHA,
    CONTROL_ALPHA,
    PAIRS,
    ArmTally,
    Guardrails,
    State,
    Tally,
    findings,
)

LIMITS = Guardrails()
ROLLOUTS, REQUESTS = 10_000, 500

Hits = Sequence[bool]
"""Outcomes to draw from."""
Phase = tuple[int, Hits, Hits]
"""So many requests, with the outcomes of the new and of the old arm."""
Judge = Callable[[int, int, int, int], bool]


def hits(percent: int) -> Hits:
    return [True] * percent + [False] * (100 - percent)


def errors_trip(trials: int, hit: int, old_trials: int, old_hit: int) -> bool:
    """Ask the guardrails about errors."""
    new = ArmTally({}, finished=trials, errors=hit)
    old = ArmTally({}, finished=old_trials, errors=old_hit)
    return tripped(new, old, "error_rate")


def slowness_trips(trials: int, hit: int, old_trials: int, old_hit: int) -> bool:
    """Ask the guardrails about latency."""
    new = ArmTally({}, finished=trials, slow=hit)
    old = ArmTally({}, finished=old_trials, slow=old_hit)
    return tripped(new, old, "latency_p95")


def tripped(new: ArmTally, old: ArmTally, name: str) -> bool:
    found = findings(Tally(new, old, failures_in_a_row=0, has_control=True), LIMITS)
    return next(f for f in found if f.name == name).state is State.TRIPPED


def taken_back(random: Random, share: float, phases: Sequence[Phase], judge: Judge) -> int | None:
    """Run one rollout; return after how many outcomes of the new arm it was taken back, if ever."""
    draw = random.random
    trials = hit = old_trials = old_hit = 0
    for requests, new, old in phases:
        each, old_each = len(new) / share, len(old) / (1 - share)
        for _ in range(requests):
            at = draw()  # both the arm and, by where in the arm's part it falls, the outcome
            if at >= share:
                old_trials += 1
                old_hit += old[int((at - share) * old_each)]
                continue
            trials += 1
            is_hit = new[int(at * each)]
            hit += is_hit
            if (is_hit or trials == LIMITS.min_exposures) and (
                trials >= LIMITS.min_exposures
                and hit > 0.05 * trials
                and hit * old_trials > old_hit * trials
                and likelihood_ratio(trials, hit, old_trials, old_hit) >= 1 / CONTROL_ALPHA
                and judge(trials, hit, old_trials, old_hit)
            ):
                return trials
    return None


def likelihood_ratio(trials: int, hit: int, old_trials: int, old_hit: int) -> float:
    """Return the greatest likelihood of both rates over that of one rate for both arms."""
    apart = peak(trials, hit) + peak(old_trials, old_hit)
    return exp(apart - peak(trials + old_trials, hit + old_hit))


def peak(trials: int, hit: int) -> float:
    if hit in {0, trials}:
        return 0.0
    return hit * log(hit / trials) + (trials - hit) * log(1 - hit / trials)


def outcomes(
    share: float, *phases: Phase, judge: Judge = errors_trip, rollouts: int = ROLLOUTS
) -> list[int | None]:
    random = Random(20260)
    return [taken_back(random, share, phases, judge) for _ in range(rollouts)]


def part(results: list[int | None]) -> float:
    return sum(result is not None for result in results) / len(results)


def half_time(results: list[int | None]) -> float:
    """Return the median of exposures until a rollout was taken back; never counts as the latest."""
    return median(10**9 if result is None else result for result in results)


@pytest.mark.parametrize(("share", "rollouts"), [(0.5, ROLLOUTS), (0.1, 2_000)])
def test_healthy_errors_in_both_arms_take_hardly_any_rollout_back(
    share, rollouts, record_property
) -> None:
    false = part(outcomes(share, (REQUESTS, hits(3), hits(3)), rollouts=rollouts))
    record_property("taken_back", false)
    assert false < 0.01


def latencies(random: Random, p95_s: float) -> Hits:
    """Return which of many outcomes are slow; their times are lognormal with a sigma of 0.6."""
    middle = p95_s / 2.683  # exp(1.645 * 0.6)
    return [middle * random.lognormvariate(0, 0.6) > LIMITS.p95_s for _ in range(20_000)]


def test_equal_latency_takes_hardly_any_rollout_back(record_property) -> None:
    random = Random(1)
    new, old = latencies(random, 15), latencies(random, 15)
    false = part(outcomes(0.5, (REQUESTS, new, old), judge=slowness_trips))
    record_property("taken_back", false)
    assert 0.005 < sum(new) / len(new) < 0.05, "a tail that could be mistaken"
    assert false < 0.01


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_regression_of_latency_is_found(share, record_property) -> None:
    random = Random(1)
    phase = (5_000, latencies(random, 40), latencies(random, 15))
    results = outcomes(share, phase, judge=slowness_trips, rollouts=300)
    record_property("median", half_time(results))
    assert part(results) == 1
    assert half_time(results) < 60


@pytest.mark.parametrize(("share", "requests"), [(0.5, REQUESTS), (0.1, 5 * REQUESTS)])
def test_20_percent_errors_are_found_within_40_exposures(share, requests, record_property) -> None:
    results = outcomes(share, (requests, hits(20), hits(3)), rollouts=2_000)
    record_property("median", half_time(results))
    record_property("found", part(results))
    assert half_time(results) < 40
    assert part(results) > 0.99


def test_an_outage_in_both_arms_is_seldom_blamed_on_the_new_one(record_property) -> None:
    always = part(outcomes(0.5, (REQUESTS, hits(20), hits(20))))
    sudden = [(200, hits(3), hits(3)), (100, hits(60), hits(60)), (200, hits(3), hits(3))]
    passing = part(outcomes(0.5, *sudden, rollouts=2_000))
    record_property("always", always)
    record_property("passing", passing)
    assert always < 0.03
    assert passing < 0.03


def costs(random: Random, times: int = 1) -> list[Decimal]:
    """Return many costs with a heavy tail: one in a hundred is 33 times the middle one."""
    drawn = (times * 0.01 * random.lognormvariate(0, 1.5) for _ in range(20_000))
    return [Decimal(f"{usd:.9f}") for usd in drawn]


Pairs = list[tuple[Decimal, Decimal]]
RATIO = Decimal(str(LIMITS.cost_ratio))
NEEDED = PAIRS * LIMITS.min_exposures


def dear_after(pairs: Pairs) -> int | None:
    """Return after how many pairs the arm is taken back, if ever."""
    found = list(excesses(pairs, RATIO))
    if max(accumulate(found)) * max(STAKES) < log(1 / ALPHA):
        return None
    capitals, beyond = START, Decimal(0)
    for count, (each, (new, old)) in enumerate(zip(found, pairs, strict=True), 1):
        capitals, beyond = staked(capitals, each), beyond + new - RATIO * old
        if count >= NEEDED and beyond > 0 and worth(capitals) >= 1 / ALPHA:
            return count
    return None


def drawn(random: Random, pairs: int, times: int = 1) -> Callable[[], Pairs]:
    """Return a function that draws pairs whose new costs are so many times the old ones."""
    new, old = costs(random, times), costs(random)
    return lambda: list(
        zip(random.choices(new, k=pairs), random.choices(old, k=pairs), strict=True)
    )


def test_equal_costs_with_a_heavy_tail_take_hardly_any_rollout_back(record_property) -> None:
    draw = drawn(Random(2), REQUESTS // 2)
    false = part([dear_after(draw()) for _ in range(ROLLOUTS)])
    record_property("taken_back", false)
    assert false < 0.01


def test_costs_at_the_very_limit_are_taken_back_no_more_often_than_promised(
    record_property,
) -> None:
    draw = drawn(Random(3), REQUESTS // 2, times=2)
    false = part([dear_after(draw()) for _ in range(2_000)])
    record_property("taken_back", false)
    assert false < ALPHA


def test_even_costs_within_the_ratio_of_skewed_ones_are_seldom_taken_back(record_property) -> None:
    """In more pairs than not the new arm costs more than twice as much, though 1.5 in the mean."""
    random = Random(6)
    middle = exp(-(1.2**2) / 2)
    old = [Decimal(f"{middle * random.lognormvariate(0, 1.2):.9f}") for _ in range(20_000)]
    new = [Decimal("1.5")] * 250
    false = part(
        [dear_after(list(zip(new, random.choices(old, k=250), strict=True))) for _ in range(1_000)]
    )
    record_property("taken_back", false)
    assert false < 0.02


@pytest.mark.parametrize(("sigma", "found", "within"), [(0.5, 0.99, 45), (1.5, 0.7, 250)])
def test_costs_of_four_times_are_found(sigma, found, within, record_property) -> None:
    """The heavier the tail, the more pairs it takes, and some of 500 are not enough."""
    random = Random(4)

    def cost(times: int) -> Decimal:
        return Decimal(f"{times * 0.01 * random.lognormvariate(0, sigma):.9f}")

    results = [dear_after([(cost(4), cost(1)) for _ in range(REQUESTS)]) for _ in range(300)]
    record_property("median", half_time(results))
    assert part(results) > found
    assert half_time(results) < within


def test_what_is_found_pair_by_pair_is_what_the_guardrail_says() -> None:
    pairs = drawn(Random(5), 300, times=4)()
    at = dear_after(pairs)
    assert at is not None
    for count in (at - 1, at):
        arms = [
            ArmTally({}, finished=count, costs=[p[arm] for p in pairs[:count]]) for arm in (0, 1)
        ]
        assert tripped(*arms, "cost") == (count == at)


def test_units_that_fall_as_assigned_are_hardly_ever_called_a_mismatch(record_property) -> None:
    random, mistaken = Random(6), 0
    for _ in range(300):
        new = worst = 0.0
        for count in range(1, 401):
            new += random.random() < 0.1
            worst = max(worst, off_share([(1_000, int(new), count - int(new))]))
        mistaken += worst >= 1 / ALPHA
    record_property("mistaken", mistaken / 300)
    assert mistaken / 300 < ALPHA
