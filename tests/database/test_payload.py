"""What is written as jsonb can be read by Postgres, whatever a page held."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.database.payload import decode, encode, plain
from llm_common.errors import InvalidInputError

ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=10,
)


def harmless(value) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(harmless(key) and harmless(item) for key, item in value.items())
    return all(map(harmless, value)) if isinstance(value, list) else True


@given(JSON)
def test_the_text_is_always_acceptable(value):
    text = encode(value)
    text.encode()
    assert harmless(json.loads(text))


@given(JSON.filter(harmless))
def test_what_is_harmless_is_untouched(value):
    assert plain(value) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_money_is_text_without_an_exponent(amount):
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text


def test_ids_and_dates_are_text():
    assert plain([UUID(int=1), date(2026, 11, 21), datetime(2026, 11, 21, tzinfo=UTC)]) == [
        "00000000-0000-0000-0000-000000000001",
        "2026-11-21",
        "2026-11-21T00:00:00+00:00",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), object(), {(1,): 1}])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(InvalidInputError, match="not JSON"):
        encode({"value": value} if not isinstance(value, dict) else value)


@pytest.mark.parametrize("depth", [10, 190, 250, 600])
def test_what_is_nested_deep_is_read(depth):
    text = "[" * depth + "]" * depth
    assert decode(text.encode()) == json.loads(text)


@given(JSON)
def test_what_was_written_is_read(value):
    text = encode(value)
    assert decode(text.encode()) == json.loads(text)


def test_an_answer_that_is_no_json_is_an_error():
    with pytest.raises(ValueError):
        decode(b"{")
