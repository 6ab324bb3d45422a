"""The sliding minute: never more than the limits, and no later than need be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_common.limits.window import WINDOW_S, Window

limits = st.none() | st.integers(1, 6)
# Quarters of a second: sums of them are exact.
pauses = st.integers(0, 160).map(lambda quarters: quarters / 4)
asked = st.lists(
    st.tuples(pauses, st.integers(0, 30), st.sampled_from(["keep", "correct", "cancel"])),
    max_size=40,
)


@given(limits, st.none() | st.integers(10, 60), asked)
def test_no_sixty_seconds_hold_more_than_the_limits(rpm, tpm, requests) -> None:
    window, now, kept = Window(), 0.0, []
    for pause, tokens, then in requests:
        now += pause
        booking = window.book(rpm, tpm, tokens, now)
        assert booking.at >= now
        if then == "cancel":
            window.cancel(booking)
            continue
        if then == "correct":
            window.correct(booking, booking.tokens // 2)
        kept.append(booking)
    for end in kept:
        inside = [each for each in kept if end.at - WINDOW_S < each.at <= end.at]
        assert rpm is None or len(inside) <= rpm
        assert tpm is None or sum(each.tokens for each in inside) <= tpm


@given(st.integers(1, 6), st.lists(pauses, max_size=30))
def test_requests_keep_their_order_and_wait_no_longer_than_they_must(rpm, waits) -> None:
    window, now, times = Window(), 0.0, []
    for pause in waits:
        now += pause
        at = window.book(rpm, None, 1, now).at
        fits = max(now, times[-rpm] + WINDOW_S) if len(times) >= rpm else now
        assert at == max(fits, times[-1] if times else now)
        times.append(at)


def test_a_request_above_the_token_limit_goes_alone() -> None:
    window = Window()
    assert window.book(None, 100, 5_000, 0.0).at == 0.0
    assert window.book(None, 100, 1, 1.0).at == WINDOW_S
    assert window.book(None, 100, 5_000, 2.0).at == 2 * WINDOW_S


def test_what_was_not_used_is_there_for_the_next() -> None:
    window = Window()
    first = window.book(None, 100, 90, 0.0)
    assert window.earliest(None, 100, 50, 1.0) == WINDOW_S
    window.correct(first, 20)
    assert window.earliest(None, 100, 50, 1.0) == 1.0
    window.cancel(first)
    assert window.requests == 0
    window.cancel(first)
    window.correct(first, 1_000)
    assert window.earliest(None, 100, 100, 1.0) == 1.0


def test_a_minute_later_everything_is_forgotten() -> None:
    window = Window()
    for _ in range(3):
        window.book(3, None, 1, 0.0)
    assert window.earliest(3, None, 1, WINDOW_S - 0.01) == WINDOW_S
    assert window.earliest(3, None, 1, WINDOW_S) == WINDOW_S
    assert window.requests == 0
