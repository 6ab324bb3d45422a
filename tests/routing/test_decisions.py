"""What follows a failed attempt, for every error and every state."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ContextLengthError,
    EmptyResponseError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
)
from llm_common.routing import (
    AttemptState,
    Decision,
    GiveUp,
    NextDeployment,
    Policy,
    Retry,
    after,
)

PASSING = [
    RateLimitedError,
    ProviderUnavailableError,
    ProviderTimeoutError,
    BrokenResponseError,
    EmptyResponseError,
]
ELSEWHERE = [AuthenticationError, ModelNotFoundError, QuotaExhaustedError]
FINAL = [BadRequestError, ContextLengthError, RefusedError, CallError]
POLICY = Policy()

errors = st.builds(
    lambda kind, wait: kind("x", retry_after_s=wait),
    st.sampled_from([*PASSING, *ELSEWHERE, *FINAL]),
    st.none() | st.floats(0, 10_000),
)
states = st.builds(
    AttemptState,
    attempts=st.integers(1, 10),
    retries_here=st.integers(0, 5),
    deployments_left=st.integers(0, 5),
    elapsed_s=st.floats(0, 1000),
    jitter=st.floats(0, 1, exclude_max=True),
    free_keys=st.integers(0, 5),
    roomier_left=st.integers(0, 5),
).filter(lambda state: max(state.free_keys, state.roomier_left) <= state.deployments_left)


def state(**changes: float) -> AttemptState:
    first = AttemptState(attempts=1, retries_here=0, deployments_left=1, elapsed_s=0.0, jitter=0.0)
    return dataclasses.replace(first, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PASSING)
def test_passing_trouble_is_retried_twice_and_then_moves_on(kind: type[CallError]) -> None:
    decisions = [after(kind("x"), state(retries_here=n), POLICY) for n in range(3)]
    assert [type(decision) for decision in decisions] == [Retry, Retry, NextDeployment]


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_this_deployment_can_not_do_moves_on_at_once(kind: type[CallError]) -> None:
    assert after(kind("x"), state(), POLICY) == NextDeployment()
    assert after(kind("x"), state(deployments_left=0), POLICY) == GiveUp()


@pytest.mark.parametrize("kind", FINAL)
def test_what_would_fail_again_gives_up(kind: type[CallError]) -> None:
    assert after(kind("x"), state(deployments_left=5), POLICY) == GiveUp()


def test_a_429_goes_to_another_key_that_is_free() -> None:
    for error in (RateLimitedError("x"), RateLimitedError("x", retry_after_s=2.0)):
        assert after(error, state(free_keys=1), POLICY) == NextDeployment()
        assert isinstance(after(error, state(), POLICY), Retry)
    assert isinstance(after(ProviderUnavailableError("x"), state(free_keys=1), POLICY), Retry)


def test_too_long_an_input_goes_only_to_a_larger_context() -> None:
    error = ContextLengthError("x")
    assert after(error, state(deployments_left=5, roomier_left=1), POLICY) == NextDeployment()
    assert after(error, state(deployments_left=5), POLICY) == GiveUp()


@pytest.mark.parametrize(
    ("retry_after_s", "expected"),
    [
        (3.0, Retry(3.0)),
        (10.0, Retry(10.0)),
        (10.1, NextDeployment()),
        (70.0, NextDeployment()),
        (0.0, Retry(0.25)),
    ],
)
def test_retry_after_is_honoured_or_moves_on(retry_after_s: float, expected: Decision) -> None:
    error = RateLimitedError("x", retry_after_s=retry_after_s)
    assert after(error, state(), POLICY) == expected


def test_a_wait_beyond_the_wall_time_moves_on() -> None:
    error = RateLimitedError("x", retry_after_s=5.0)
    assert after(error, state(elapsed_s=295.0), POLICY) == NextDeployment()
    assert after(error, state(elapsed_s=294.0), POLICY) == Retry(5.0)
    assert after(error, state(elapsed_s=300.0), POLICY) == GiveUp()


def test_backoff_doubles_up_to_its_ceiling() -> None:
    policy = Policy(retries=10, base_s=1.0, max_backoff_s=4.0)
    error = ProviderUnavailableError("x")
    waits = [after(error, state(retries_here=n, jitter=0.999999), policy) for n in range(4)]
    assert [round(wait.delay_s) for wait in waits if isinstance(wait, Retry)] == [1, 2, 4, 4]


@given(errors, states)
def test_the_caps_hold_in_every_state(error: CallError, state: AttemptState) -> None:
    decision = after(error, state, POLICY)
    if state.attempts >= POLICY.max_attempts or state.elapsed_s >= POLICY.wall_time_s:
        assert decision == GiveUp()
    if isinstance(decision, NextDeployment):
        assert state.deployments_left > 0
    if isinstance(decision, Retry):
        assert state.retries_here < POLICY.retries
        assert decision.delay_s >= (error.retry_after_s or 0)
        assert decision.delay_s <= POLICY.patience_s
        assert state.elapsed_s + decision.delay_s < POLICY.wall_time_s


@given(errors, st.integers(1, 5), st.integers(0, 4), st.integers(1, 12))
def test_an_operation_ends_within_its_attempts(
    error: CallError, deployments: int, retries: int, cap: int
) -> None:
    policy = Policy(max_attempts=cap, retries=retries)
    attempts, here, left, elapsed = 1, 0, deployments - 1, 0.0
    while not isinstance(
        decision := after(error, AttemptState(attempts, here, left, elapsed), policy), GiveUp
    ):
        if isinstance(decision, Retry):
            elapsed, here = elapsed + decision.delay_s, here + 1
        else:
            left, here = left - 1, 0
        attempts += 1
        assert attempts <= cap
    assert attempts <= deployments * (retries + 1)
    assert elapsed < policy.wall_time_s


@given(errors, states)
def test_the_same_state_decides_the_same(error: CallError, state: AttemptState) -> None:
    assert after(error, state, POLICY) == after(error, state, POLICY)


def test_jitter_is_drawn_anew_for_each_state() -> None:
    draws = {AttemptState(1, 0, 0, 0.0).jitter for _ in range(20)}
    assert len(draws) > 1
    assert all(0 <= draw < 1 for draw in draws)
