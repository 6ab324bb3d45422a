"""A deployment that keeps failing is left alone, and tried again by one request at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_common.limits.circuit import (
    CLOSED,
    FAILURES,
    OPEN_S,
    TRIAL_POLL_S,
    Circuit,
    entered,
    failed,
    left,
    wait_s,
)


def opened(now: float = 0.0) -> Circuit:
    circuit = CLOSED
    for _ in range(FAILURES):
        assert wait_s(circuit, now) == 0
        circuit = failed(circuit, now)
    return circuit


def test_it_opens_after_several_failures_in_a_row_and_half_opens_later() -> None:
    circuit = opened()
    assert wait_s(circuit, 0.0) == OPEN_S
    assert wait_s(circuit, OPEN_S - 1) == 1
    assert wait_s(circuit, OPEN_S) == 0


def test_one_trial_at_a_time() -> None:
    trying = entered(opened(), OPEN_S, timeout_s=20)
    assert wait_s(trying, OPEN_S) == TRIAL_POLL_S
    assert wait_s(left(trying), OPEN_S) == 0
    assert wait_s(trying, OPEN_S + 20) == 0


def test_a_trial_that_fails_opens_it_again() -> None:
    trying = entered(opened(), OPEN_S, timeout_s=20)
    assert wait_s(failed(trying, OPEN_S + 1), OPEN_S + 1) == OPEN_S


def test_what_was_under_way_does_not_prolong_it() -> None:
    circuit = failed(opened(), 10.0)
    assert wait_s(circuit, 10.0) == OPEN_S - 10


def test_a_closed_circuit_has_no_trials() -> None:
    assert entered(CLOSED, 1.0, 20) == CLOSED
    assert left(Circuit(failures=2)) == Circuit(failures=2)


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(["fail", "answer", "leave"]))))
def test_in_every_course_at_most_one_request_passes_while_it_is_open(course) -> None:
    circuit, now, row = CLOSED, 0.0, 0
    for pause, outcome in course:
        now += pause
        if wait_s(circuit, now) > 0:
            assert row >= FAILURES
            assert now < circuit.open_until or now < circuit.trial_until
            continue
        circuit = entered(circuit, now, timeout_s=1000)
        if circuit.open_until:
            assert wait_s(circuit, now) > 0, "a second trial"
        if outcome == "fail":
            circuit, row = failed(circuit, now), row + 1
        elif outcome == "answer":
            circuit, row = CLOSED, 0
        else:
            circuit = left(circuit)
