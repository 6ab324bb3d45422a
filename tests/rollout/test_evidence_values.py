"""The e-values are what they say: capitals that do not grow while the hypothesis holds."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import reduce
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.rollout.evidence_values import (
    START,
    above_control,
    above_threshold,
    dearer,
    excesses,
    off_share,
    staked,
    worth,
)

rates = st.sampled_from([0.001, 0.01, 0.05, 0.3, 0.5, 0.9, 0.99])


@st.composite
def counts(draw: st.DrawFn, fewest: int = 0, most: int = 1_000) -> tuple[int, int]:
    trials = draw(st.integers(fewest, most))
    return trials, draw(st.integers(0, trials))


def binomial(trials: int, hits: int, rate: float) -> float:
    return math.comb(trials, hits) * rate**hits * (1 - rate) ** (trials - hits)


@given(counts(), rates)
def test_against_a_threshold_one_more_trial_leaves_the_mean_as_it_was(counted, rate) -> None:
    trials, hits = counted
    now = above_threshold(trials, hits, rate)
    after = [above_threshold(trials + 1, hits + hit, rate) for hit in (0, 1)]
    if 0 < now < 1e250:
        assert (1 - rate) * after[0] + rate * after[1] == pytest.approx(now, rel=1e-6)


@given(rates, st.floats(0, 1))
def test_below_the_threshold_one_trial_never_gains_in_the_mean(limit, part) -> None:
    rate = limit * part
    mean = (1 - rate) * above_threshold(1, 0, limit) + rate * above_threshold(1, 1, limit)
    assert mean <= 1 + 1e-9


@given(counts(), rates)
def test_a_rate_within_the_threshold_is_no_evidence(counted, rate) -> None:
    trials, hits = counted
    if hits <= rate * trials:
        assert above_threshold(trials, hits, rate) <= 1 + 1e-9


@given(counts(fewest=1), rates)
def test_an_error_in_place_of_a_success_is_more_evidence(counted, rate) -> None:
    trials, hits = counted
    if hits < trials:
        assert above_threshold(trials, hits + 1, rate) >= above_threshold(trials, hits, rate)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2, 0.6, 0.95])
@pytest.mark.parametrize(("trials", "control"), [(12, 12), (4, 30), (30, 4), (0, 10), (10, 0)])
def test_against_a_control_the_mean_is_at_most_1_while_both_have_one_rate(
    rate, trials, control
) -> None:
    mean = sum(
        binomial(trials, k, rate)
        * binomial(control, c, rate)
        * above_control(trials, k, control, c, 0.05)
        for k, c in product(range(trials + 1), range(control + 1))
    )
    assert mean <= 1 + 1e-9


@given(counts(20, 300), counts(0, 300), st.sampled_from([0.01, 0.05]))
def test_an_error_in_place_of_a_success_is_more_evidence_against_the_control_too(
    new, old, limit
) -> None:
    (trials, hits), after = new, min(new[1] + 1, new[0])
    before = above_control(trials, hits, *old, limit)
    if before >= 3:  # less is none to speak of, and there the coarse grid shows
        assert above_control(trials, after, *old, limit) >= before * (1 - 1e-9)


@given(counts(20, 300), counts(20, 300))
def test_a_new_arm_that_is_no_worse_than_its_control_is_never_suspect(new, old) -> None:
    if new[1] * old[0] <= old[1] * new[0]:
        assert above_control(*new, *old, 0.05) <= 1


@given(counts(1, 300), counts(1, 300))
def test_no_evidence_exceeds_the_greatest_likelihood_ratio(new, old) -> None:
    both = [a + b for a, b in zip(new, old, strict=True)]
    alike = binomial(*both, both[1] / both[0])
    apart = math.prod(binomial(*each, each[1] / each[0]) for each in (new, old))
    ways = math.comb(*both) / (math.comb(*new) * math.comb(*old))
    if new[1] * old[0] > old[1] * new[0]:
        assert above_control(*new, *old, 0.05) <= apart / alike * ways * (1 + 1e-9)


def test_without_outcomes_there_is_no_evidence() -> None:
    assert above_threshold(0, 0, 0.05) == pytest.approx(1)
    assert above_control(0, 0, 0, 0, 0.05) == pytest.approx(1)
    assert above_control(50, 50, 0, 0, 0.05) <= 1
    assert dearer([]) == 1
    assert off_share([]) == 1


def test_evidence_beyond_what_a_float_holds_is_cut() -> None:
    assert above_threshold(5_000, 5_000, 0.01) == above_threshold(6_000, 6_000, 0.01)
    assert math.isfinite(dearer([1.0] * 2_000))
    assert math.isfinite(off_share([(1, 5_000, 0)]))
    assert above_threshold(100_000, 0, 0.9) == 0
    assert above_control(100_000, 5_500, 100_000, 90_000, 0.05) == 0


def test_fair_stakes_gain_nothing_in_the_mean() -> None:
    for high in (1.0, 0.25):
        low = -0.5
        chance = -low / (high - low)
        courses = product((high, low), repeat=6)
        mean = sum(
            math.prod(chance if e == high else 1 - chance for e in course) * dearer(course)
            for course in courses
        )
        assert mean == pytest.approx(1)


@given(st.lists(st.floats(-1, 1), max_size=40), st.randoms())
def test_the_order_of_stakes_does_not_matter_and_the_evidence_is_no_less_than_0(
    beyond, random
) -> None:
    shuffled = random.sample(beyond, len(beyond))
    assert dearer(shuffled) == pytest.approx(dearer(beyond), rel=1e-9)
    assert dearer(beyond) >= 0
    assert dearer(beyond) == worth(reduce(staked, beyond, START))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0, 2))
def test_a_dearer_outcome_is_more_evidence(beyond, more) -> None:
    dearer_ones = [min(beyond[0] + more, 1), *beyond[1:]]
    assert dearer(dearer_ones) >= dearer(beyond)


amounts = st.decimals(0, 10_000, places=12)


@given(amounts, amounts, amounts, st.sampled_from([Decimal("0.5"), Decimal(2), Decimal(10)]))
def test_an_excess_has_the_sign_of_what_was_spent_beyond_the_ratio(first, new, old, ratio) -> None:
    nothing, found = excesses([(first, first), (new, old)], ratio)
    assert nothing == 0
    assert -1 <= found <= 1
    assert (found > 0) == (new > ratio * old)
    assert (found < 0) == (new < ratio * old)


def test_excesses_add_up_as_amounts_do() -> None:
    """One old outcome that costs ten times as much makes up for many that cost little."""
    pairs = [(Decimal(3), Decimal(10)), *[(Decimal(3), Decimal(1))] * 9]
    assert sum(excesses([(Decimal(3), Decimal(10)), *pairs], Decimal(2))) < 0


def test_an_excess_is_cut_off_at_twice_the_dearest_so_far() -> None:
    pairs = [(Decimal(1), Decimal(1)), (Decimal(6), Decimal(1)), (Decimal(2), Decimal(4))]
    assert list(excesses(pairs, Decimal(2))) == [0, 1, -1]
    assert list(excesses([*pairs, (Decimal(8), Decimal(0))], Decimal(2)))[-1] == 0.5


def test_two_free_outcomes_have_no_excess() -> None:
    free = (Decimal(0), Decimal(0))
    least = (Decimal("0.000000000001"), Decimal(0))
    assert list(excesses([free, free, least], Decimal(2))) == [0, 0, 1]


@given(st.integers(1, 9_999), st.integers(0, 500), st.integers(0, 500))
def test_against_a_share_one_more_unit_leaves_the_mean_as_it_was(share, new, old) -> None:
    part = share / 10_000
    now = off_share([(share, new, old)])
    after = part * off_share([(share, new + 1, old)]) + (1 - part) * off_share(
        [(share, new, old + 1)]
    )
    if 1e-250 < now < 1e250:
        assert after == pytest.approx(now, rel=1e-6)


def test_units_under_two_shares_are_judged_each_by_its_own() -> None:
    first, second = (1_000, 30, 90), (5_000, 70, 60)
    assert off_share([first, second]) == pytest.approx(off_share([first]) * off_share([second]))
    assert off_share([(1_000, 10, 90), (5_000, 50, 50)]) < 1
    assert off_share([(5_000, 10, 90), (1_000, 50, 50)]) > 1e6
