"""Buckets: the same everywhere, even, and never left by a share that grows."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.errors import InvalidInputError
from llm_common.rollout import bucket
from llm_common.rollout.buckets import BUCKETS, percent_of, share_of

GOLDEN = {
    ("bill-analysis", "SB-9"): 2731,
    ("bill-analysis", "AB-1234"): 554,
    ("chat", "6f9d5e2c-4a56-4d8c-9a39-0f3a1d7f2b11"): 9255,
    ("chat", "naïve \U0001f600"): 5889,
    ("chat", "7"): 5785,
}
"""Computed once by hand from SHA-256: a release that changes one moves units."""


@pytest.mark.parametrize(("of", "expected"), GOLDEN.items())
def test_golden_vectors(of, expected):
    assert bucket(*of) == expected


def test_numbers_and_uuids_are_their_text():
    assert bucket("chat", 7) == bucket("chat", "7")
    name = "6f9d5e2c-4a56-4d8c-9a39-0f3a1d7f2b11"
    assert bucket("chat", UUID(name)) == bucket("chat", name)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_unit_has_one_bucket(flag, unit):
    assert 0 <= bucket(flag, unit) < BUCKETS
    assert bucket(flag, unit) == bucket(flag, unit)


@pytest.mark.parametrize("unit", [None, "", True, 1.5, b"x"])
def test_a_unit_needs_an_id(unit):
    with pytest.raises(InvalidInputError, match="needs an id"):
        bucket("chat", unit)


def test_a_million_ids_spread_evenly():
    """Chi-square over all buckets; 10,428 is its 99.9th percentile at 9,999 degrees of freedom."""
    counts = Counter(bucket("bill-analysis", f"unit-{i}") for i in range(1_000_000))
    expected = 1_000_000 / BUCKETS
    chi_square = sum((counts[b] - expected) ** 2 / expected for b in range(BUCKETS))
    assert 9_572 < chi_square < 10_440


def test_two_flags_cut_the_units_differently():
    first = {i for i in range(10_000) if bucket("a", i) < 1_000}
    second = {i for i in range(10_000) if bucket("b", i) < 1_000}
    assert 50 < len(first & second) < 150


@pytest.mark.parametrize(
    ("percent", "share"),
    [("0", 0), (100, 10_000), ("0.01", 1), ("12.5", 1250), (Decimal("99.99"), 9_999), (0.1, 10)],
)
def test_percentages(percent, share):
    assert share_of(percent) == share
    assert share_of(percent_of(share)) == share


@pytest.mark.parametrize("percent", ["-1", "100.01", "ten", "", "nan", "inf", None, True, []])
def test_a_percentage_is_a_number_from_0_to_100(percent):
    with pytest.raises(InvalidInputError, match="a number from 0 to 100"):
        share_of(percent)


def test_finer_steps_do_not_exist():
    with pytest.raises(InvalidInputError, match=r"steps of 0\.01"):
        share_of("12.345")
