"""The arithmetic of leases: no clock and no database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.cost_tracker import Limit
from llm_common.cost_tracker.leases import (
    IDLE_S,
    OBSERVED_S,
    USABLE_S,
    Lease,
    Leases,
    Observed,
    boot_clock,
    floor_nano,
    wish_nano,
)

KEY = ("p", (Limit("project", "p", "day", Decimal(1)),))
OTHER = ("p", (Limit("project", "p", "day", Decimal(2)),))
START = 1000.0


def lease(name: str = "a", granted: int = 100, **changes: Any) -> Lease:
    times = {"ends": START + USABLE_S, "longest_s": 120.0, "last_served": START}
    return Lease(name, granted=granted, **{"key": KEY, "day": "2026-11-21", **times, **changes})


def serve(leases: Leases, name: str, bound: int, now: float = START, timeout_s: float = 1) -> Any:
    return leases.serve(KEY, (name, 1), bound, timeout_s, now)


@pytest.fixture
def leases() -> Leases:
    """One lease of a hundred."""
    leases = Leases()
    leases.add(lease())
    return leases


def stated(leases: Leases) -> dict[str, tuple[int, bool]]:
    return {s["lease_id"]: (s["returned_nano"], s["is_closed"]) for s in leases.statements("me")}


def tell(leases: Leases, *recalled: str) -> bool:
    said = leases.statements("me")
    answers = [{"lease_id": s["lease_id"], "recalled": s["lease_id"] in recalled} for s in said]
    return leases.heard(said, answers)


def test_calls_are_served_as_far_as_it_goes(leases: Leases) -> None:
    assert serve(leases, "one", 60)
    assert serve(leases, "two", 41) is None
    assert serve(leases, "two", 40)
    assert serve(leases, "three", 1) is None


def test_a_settled_call_leaves_the_rest_of_its_bound_to_the_next(leases: Leases) -> None:
    serve(leases, "one", 100)
    leases.settle(("one", 1), 30, START)
    assert serve(leases, "two", 71) is None
    assert serve(leases, "two", 70)


def test_a_call_beyond_its_bound_takes_its_bound(leases: Leases) -> None:
    serve(leases, "one", 60)
    leases.settle(("one", 1), 500, START)
    assert serve(leases, "two", 41) is None
    assert serve(leases, "two", 40)


def test_only_the_first_settlement_counts(leases: Leases) -> None:
    serve(leases, "one", 60)
    leases.settle(("one", 1), 60, START)
    leases.settle(("one", 1), 0, START)
    leases.settle(("stranger", 1), 0, START)
    assert serve(leases, "two", 41) is None


def test_its_end_is_the_end_of_serving(leases: Leases) -> None:
    """Also after a suspension: the clock is an argument."""
    assert serve(leases, "one", 1, now=START + USABLE_S) is None
    assert serve(leases, "one", 1, now=START + USABLE_S - 0.001)


def test_a_call_that_may_outlive_it_is_not_served(leases: Leases) -> None:
    assert serve(leases, "one", 1, timeout_s=120.1) is None
    assert serve(leases, "one", 1, timeout_s=120.0)


def test_other_limits_have_other_leases(leases: Leases) -> None:
    assert leases.serve(OTHER, ("one", 1), 1, 1, START) is None


def test_what_is_not_in_use_is_given_back_and_the_rest_as_calls_end(leases: Leases) -> None:
    serve(leases, "one", 30)
    serve(leases, "two", 20)
    leases.settle(("one", 1), 10, START)
    assert stated(leases) == {"a": (0, False)}
    assert not leases.have_news
    leases.close(START)
    assert stated(leases) == {"a": (70, True)}
    assert leases.have_news
    assert serve(leases, "three", 1) is None
    tell(leases)
    assert (leases.have_news, stated(leases), leases.over()) == (False, {}, [])
    leases.settle(("two", 1), 5, START)
    assert stated(leases) == {"a": (85, True)}
    tell(leases)
    assert leases.over() == ["a"]
    assert leases.over() == []


def test_a_statement_that_was_not_heard_is_made_again(leases: Leases) -> None:
    leases.close(START)
    assert stated(leases) == stated(leases) == {"a": (100, True)}
    assert leases.have_news


def test_one_that_lies_idle_is_given_back(leases: Leases) -> None:
    serve(leases, "one", 1, now=START + 3)
    leases.close(START + 3 + IDLE_S - 0.01, idle_only=True)
    assert leases.are_open
    leases.close(START + 3 + IDLE_S, idle_only=True)
    assert not leases.are_open


def test_one_that_has_ended_is_given_back_however_busy() -> None:
    leases = Leases()
    leases.add(lease(ends=START + 1, last_served=START + 1))
    leases.close(START + 1, idle_only=True)
    assert stated(leases) == {"a": (100, True)}


def test_a_new_one_replaces_the_old(leases: Leases) -> None:
    leases.add(lease("b", 10))
    leases.add(lease("c", 10, key=OTHER))
    assert stated(leases) == {"a": (100, True), "b": (0, False), "c": (0, False)}


def test_one_that_is_called_back_is_given_back_and_said_at_once(leases: Leases) -> None:
    leases.add(lease("c", 10, key=OTHER))
    assert tell(leases, "a") is True
    assert stated(leases) == {"a": (100, True), "c": (0, False)}
    assert tell(leases, "a") is False, "it was not closed once more"


def test_statements_may_be_of_one_project(leases: Leases) -> None:
    leases.add(lease("z", key=("q", ())))
    assert [s["lease_id"] for s in leases.statements("me", "q")] == ["z"]


def test_a_wish_covers_who_waits_what_is_on_the_wire_and_a_stretch_of_spending() -> None:
    leases = Leases()
    assert leases.wish(KEY, [3, 4], START) == 7
    leases.begin(KEY, ("hold", 1), 50, None, START)
    leases.add(lease())
    serve(leases, "one", 20)
    assert leases.wish(KEY, [3, 4], START) == 77
    leases.settle(("hold", 1), 2, START)
    leases.settle(("one", 1), 1, START + 1)
    assert leases.wish(KEY, [3, 4], START + 1) == 7 + 3 * OBSERVED_S
    assert leases.wish(OTHER, [3], START + 1) == 3
    assert wish_nano(1, 2, 3) == 6
    assert floor_nano([3, 9, 4]) == 18


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(0, 10**9)), max_size=40))
def test_observed_spending_is_that_of_the_last_stretch(costs: list[tuple[float, int]]) -> None:
    observed, now = Observed(), 0.0
    costs.sort(key=lambda cost: cost[0])
    for now, nano in costs:
        observed.add(nano, now)
    recent = [nano for at, nano in costs if int(at) > int(now) - OBSERVED_S]
    assert sum(recent) <= observed.per_stretch(now) <= sum(recent) * OBSERVED_S
    assert observed.per_stretch(now + OBSERVED_S) == 0


def test_a_steady_rate_is_observed_as_it_is() -> None:
    observed = Observed()
    for second in range(200):
        observed.add(5, START + second)
    assert observed.per_stretch(START + 199) == 5 * OBSERVED_S
    assert observed.per_stretch(START + 199 + OBSERVED_S / 2) == 5 * OBSERVED_S / 2


def test_accounts_of_bygone_runs_are_forgotten() -> None:
    leases = Leases()
    for number in range(50):
        key = ("p", (Limit("run", str(number), "total", Decimal(1)),))
        leases.begin(key, (str(number), 1), 5, None, START + number)
        leases.settle((str(number), 1), 5, START + number)
    leases.close(START + 49, idle_only=True)
    assert len(leases._accounts) == 50
    leases.close(START + 49 + OBSERVED_S, idle_only=True)
    assert leases._accounts == {}


def test_the_clock_goes_on() -> None:
    first = boot_clock()
    assert boot_clock() >= first > 0
