"""What each guardrail says of a tally, and what becomes of the rollout."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.errors import InvalidInputError
from llm_common.rollout.guardrails import (
    ArmTally,
    Finding,
    Guardrails,
    State,
    Tally,
    decide,
    findings,
)

CENTS = (Decimal("0.01"),) * 100
HEALTHY_ARM = ArmTally(
    {5_000: 40}, finished=100, errors=2, slow=1, due=90, lost=0, costs=CENTS, unpriced=0
)
HEALTHY = Tally(HEALTHY_ARM, HEALTHY_ARM, failures_in_a_row=0, has_control=True, seconds=900)
LIMITS = Guardrails()


def tally(
    new: dict[str, Any] | None = None, old: dict[str, Any] | None = None, **both: Any
) -> Tally:
    """Return the healthy tally with other figures."""
    arms = {"new": replace(HEALTHY_ARM, **new or {}), "old": replace(HEALTHY_ARM, **old or {})}
    return replace(HEALTHY, **arms, **both)


def found(name: str, of: Tally, guardrails: Guardrails = LIMITS) -> Finding:
    return next(f for f in findings(of, guardrails) if f.name == name)


def verdict(of: Tally, exposures: int = 50, seconds: float = 600) -> tuple[str, str]:
    return decide(findings(of, LIMITS), of, min_exposures=exposures, min_seconds=seconds)


def test_a_healthy_arm_advances() -> None:
    names = {f.name: f.state for f in findings(HEALTHY, LIMITS)}
    assert set(names) == {
        "error_rate", "latency_p95", "cost", "data_loss", "failures_in_a_row", "sample_ratio"
    }  # fmt: skip
    assert set(names.values()) == {State.OK}
    action, reason = verdict(HEALTHY)
    assert action == "advance"
    assert "100 outcomes" in reason
    assert "900 s" in reason


def test_a_stage_needs_its_outcomes_and_its_time() -> None:
    assert verdict(HEALTHY, exposures=100)[0] == "advance"
    assert verdict(HEALTHY, exposures=101) == (
        "hold",
        "The new arm has 100 of 101 outcomes that the stage needs.",
    )
    assert verdict(HEALTHY, seconds=900)[0] == "advance"
    assert verdict(HEALTHY, seconds=901) == ("hold", "The stage is 900 s old, of 901 s.")


def test_without_findings_nothing_advances() -> None:
    assert decide((), HEALTHY, min_exposures=0, min_seconds=0)[0] == "hold"


def test_what_is_tripped_goes_before_what_is_unknown() -> None:
    both = tally(new={"vanished": 1, "costs": ()})
    states = {f.state for f in findings(both, LIMITS)}
    assert {State.TRIPPED, State.UNKNOWN} <= states
    action, reason = verdict(both)
    assert action == "roll_back"
    assert reason == "1 outcomes of the new arm name a run that is gone."


@pytest.mark.parametrize(("name", "field"), [("error_rate", "errors"), ("latency_p95", "slow")])
def test_a_rate_above_the_limit_and_the_control_is_taken_back(name, field) -> None:
    worse = found(name, tally(new={field: 20}))
    assert worse.state is State.TRIPPED
    assert (worse.new, worse.old) == (0.2, getattr(HEALTHY_ARM, field) / 100)
    assert worse.evidence is not None
    assert worse.evidence >= 20
    assert "20 of 100 (20.0 %)" in worse.text
    assert verdict(tally(new={field: 20})) == ("roll_back", worse.text)


@pytest.mark.parametrize(("name", "field"), [("error_rate", "errors"), ("latency_p95", "slow")])
def test_what_hits_both_arms_is_held_and_not_taken_back(name, field) -> None:
    outage = tally(new={field: 20}, old={field: 20})
    assert found(name, outage).state is State.INCONCLUSIVE
    assert "not proven worse than the old arm" in found(name, outage).text
    assert verdict(outage)[0] == "hold"


@pytest.mark.parametrize(("name", "field"), [("error_rate", "errors"), ("latency_p95", "slow")])
def test_without_a_control_the_limit_alone_decides(name, field) -> None:
    alone = tally(new={"units": {}, field: 20}, old={"units": {}, field: 20}, has_control=False)
    assert found(name, alone).state is State.TRIPPED


def test_a_control_without_outcomes_proves_nothing() -> None:
    fresh = tally(new={"errors": 60}, old={"finished": 0, "errors": 0, "slow": 0})
    assert found("error_rate", fresh).state is State.INCONCLUSIVE
    assert found("error_rate", fresh).old is None


def test_a_rate_beyond_its_limit_without_proof_holds() -> None:
    assert found("error_rate", tally(new={"errors": 5})).state is State.OK
    assert found("error_rate", tally(new={"errors": 6})).state is State.INCONCLUSIVE


def test_a_suspicion_holds_before_the_proof() -> None:
    suspect = found("error_rate", tally(new={"errors": 11}))
    assert suspect.evidence is not None
    assert 3 <= suspect.evidence < 20
    assert suspect.state is State.INCONCLUSIVE


def test_few_outcomes_are_inconclusive_however_bad_they_are() -> None:
    few = {"finished": 19, "errors": 19, "slow": 19, "due": 19, "lost": 19, "costs": CENTS[:19]}
    for name in ("error_rate", "latency_p95", "cost", "data_loss"):
        assert found(name, tally(new=few)).state is State.INCONCLUSIVE, name
    enough = few | {"finished": 20, "due": 20, "costs": (Decimal(9),) * 40}
    for name in ("error_rate", "latency_p95", "cost", "data_loss"):
        assert found(name, tally(new=enough)).state is State.TRIPPED, name


def test_a_stage_without_any_outcome_is_described() -> None:
    empty = ArmTally({})
    nothing = Tally(empty, empty, failures_in_a_row=0, has_control=True)
    for each in findings(nothing, LIMITS):
        assert each.state in {State.INCONCLUSIVE, State.OK}
        assert each.evidence is None
        assert each.text
    assert verdict(nothing, exposures=0, seconds=0)[0] == "hold"


@given(st.integers(20, 400), st.data())
def test_an_error_in_place_of_a_success_never_makes_a_verdict_milder(trials, data) -> None:
    errors = data.draw(st.integers(0, trials - 1))
    old_trials = data.draw(st.integers(20, 400))
    old_errors = data.draw(st.integers(0, old_trials))
    order = [State.OK, State.INCONCLUSIVE, State.TRIPPED]
    old = {"finished": old_trials, "errors": old_errors}
    before, after = (
        found("error_rate", tally(new={"finished": trials, "errors": e}, old=old)).state
        for e in (errors, errors + 1)
    )
    assert order.index(after) >= order.index(before)


def test_failures_in_a_row_need_no_minimum() -> None:
    fresh = {"finished": 5, "errors": 5, "slow": 0, "costs": ()}
    assert found("failures_in_a_row", tally(failures_in_a_row=4)).state is State.OK
    tripped = found("failures_in_a_row", tally(new=fresh, failures_in_a_row=5))
    assert tripped.state is State.TRIPPED
    assert tripped.new == 5
    assert verdict(tally(new=fresh, failures_in_a_row=5))[0] == "roll_back"


def test_a_regression_of_cost_is_taken_back_and_a_permitted_rise_is_not() -> None:
    dear = tally(new={"costs": (Decimal("0.04"),) * 100})
    assert found("cost", dear).state is State.TRIPPED
    assert found("cost", dear).new == pytest.approx(0.04)
    assert found("cost", dear, Guardrails(cost_ratio=4)).state is State.OK
    assert found("cost", tally(new={"costs": (Decimal("0.02"),) * 100})).state is State.OK


def test_costs_are_compared_with_earlier_ones_where_no_control_runs() -> None:
    alone = tally(new={"units": {}, "costs": (Decimal("0.04"),) * 100}, has_control=False)
    assert found("cost", alone).state is State.TRIPPED


def test_one_very_dear_outcome_holds_and_is_not_taken_back() -> None:
    spike = tally(new={"costs": (Decimal(900), *CENTS[1:])})
    assert found("cost", spike).state is State.INCONCLUSIVE


def test_costs_that_were_dearer_for_long_hold_though_their_sums_are_in_proportion() -> None:
    new = {"costs": (*[Decimal("0.05")] * 60, Decimal(1))}
    old = {"costs": (*[Decimal("0.01")] * 60, Decimal(100))}
    suspect = found("cost", tally(new=new, old=old))
    assert suspect.state is State.INCONCLUSIVE
    assert suspect.evidence is not None
    assert suspect.evidence >= 20


def test_a_few_dear_outcomes_are_not_enough() -> None:
    dear = (Decimal("0.10"),)
    for number, state in ((39, State.INCONCLUSIVE), (40, State.TRIPPED)):
        new = {"costs": dear * number, "finished": number}
        old = {"costs": CENTS[:number], "finished": number}
        assert found("cost", tally(new=new, old=old)).state is state


def test_a_free_arm_beside_a_free_one_is_within_the_ratio() -> None:
    free = {"costs": (Decimal(0),) * 100}
    assert found("cost", tally(new=free, old=free)).state is State.OK
    assert found("cost", tally(old=free)).state is State.TRIPPED


def test_unknown_costs_never_advance() -> None:
    for unpriced in ({"costs": (), "unpriced": 100}, {"costs": CENTS[:19], "unpriced": 81}):
        unknown = found("cost", tally(new=unpriced))
        assert unknown.state is State.UNKNOWN
        assert f"{unpriced['unpriced']} of its outcomes have no known cost" in unknown.text
        assert verdict(tally(new=unpriced))[0] == "hold"
    assert found("cost", tally(old={"costs": ()})).state is State.UNKNOWN
    assert found("cost", tally(new={"costs": CENTS[:20]})).state is State.OK


def test_a_vanished_run_is_taken_back_at_once() -> None:
    fresh = {"finished": 1, "errors": 0, "slow": 0, "vanished": 1}
    assert found("data_loss", tally(new=fresh)).state is State.TRIPPED
    assert found("data_loss", tally(old={"vanished": 1})).state is State.OK


def test_lost_outcomes_hold_and_then_take_back() -> None:
    assert found("data_loss", tally(new={"lost": 1})).state is State.INCONCLUSIVE
    assert found("data_loss", tally(new={"lost": 1}, old={"lost": 1})).state is State.INCONCLUSIVE
    lost = found("data_loss", tally(new={"lost": 10}))
    assert lost.state is State.TRIPPED
    assert lost.new == pytest.approx(1 / 9)
    assert found("data_loss", tally(new={"lost": 10}, old={"lost": 10})).state is (
        State.INCONCLUSIVE
    )


def test_a_loss_below_the_limit_is_excused_by_the_control_alone() -> None:
    of_many = {"finished": 1_000, "due": 900, "lost": 3}
    assert found("data_loss", tally(new=of_many, old=of_many)).state is State.OK
    assert found("data_loss", tally(new=of_many)).state is State.INCONCLUSIVE
    assert found("data_loss", tally(new=of_many, old={"due": 0})).state is State.INCONCLUSIVE
    alone = tally(new=of_many, old=of_many, has_control=False)
    assert found("data_loss", alone).state is State.INCONCLUSIVE


def test_stored_outcomes_show_that_outcomes_get_stored_before_any_is_due() -> None:
    early = tally(new={"due": 0})
    assert found("data_loss", early).state is State.OK
    assert found("data_loss", tally(new={"due": 1, "lost": 1})).state is State.INCONCLUSIVE


def test_a_mismatch_of_units_holds_and_names_what_was_expected() -> None:
    off = found("sample_ratio", tally(new={"units": {5_000: 20}}, old={"units": {5_000: 80}}))
    assert off.state is State.INCONCLUSIVE
    assert (off.new, off.old) == (20, 80)
    assert "20 of 100 units were shown the new arm, 50.0 were expected" in off.text
    alike = found("sample_ratio", tally(new={"units": {1_000: 20}}, old={"units": {1_000: 190}}))
    assert alike.state is State.OK
    assert "21.0 were expected" in alike.text


def test_units_that_nobody_counted_are_unknown() -> None:
    uncounted = tally(new={"units": {}}, old={"units": {}})
    assert found("sample_ratio", uncounted).state is State.UNKNOWN
    assert found("sample_ratio", replace(uncounted, has_control=False)).state is State.OK


@pytest.mark.parametrize(
    "wrong",
    [
        {"error_rate": 0}, {"error_rate": 1}, {"error_rate": float("nan")}, {"p95_s": 0},
        {"p95_s": float("inf")}, {"cost_ratio": -1}, {"cost_ratio": float("nan")},
        {"min_exposures": 0}, {"failures_in_a_row": 0},
    ],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused_by_name(wrong) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        Guardrails(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": 101}, {"slow": -1}, {"lost": 91}, {"vanished": -1}, {"unpriced": -1},
        {"units": {0: 1}}, {"units": {10_000: 1}}, {"units": {5_000: -1}},
        {"costs": (Decimal(-1),)}, {"costs": (Decimal("NaN"),)},
    ],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused_by_name(wrong) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        replace(HEALTHY_ARM, **wrong)
