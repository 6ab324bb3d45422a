"""One value has one text: a change here would pay for every stored step again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_common.errors import InvalidInputError
from llm_common.runs import canonical, digest


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    b: int = 1
    a: Decimal = Decimal("1.50")


# Version 1. A vector that changes means that VERSION must, too.
GOLDEN: list[tuple[Any, str, str]] = [
    (None, "null", "8e0ba1bd1b031954"),
    ({}, "{}", "798e1fee104b349b"),
    ({"b": 1, "a": [True, False]}, '{"a":[true,false],"b":1}', "1acb58de445f48e2"),
    ({"é": "ü🐘\n", "Z": "\u2028"}, '{"Z":"\u2028","é":"ü🐘\\n"}', "c64101a135bebdb6"),
    (
        [1, 1.0, 1e22, 0.1, -0.0, 10**30],
        "[1,1.0,1e+22,0.1,-0.0," + "1" + "0" * 30 + "]",
        "75462006207bbb45",
    ),
    (Decimal("1.10"), '"1.10"', "6e9685d888ae3404"),
    (date(2026, 11, 21), '"2026-11-21"', "1c66773da61bc43c"),
    (datetime(2026, 11, 21, 9, 30, tzinfo=UTC), '"2026-11-21T09:30:00+00:00"', "9b99806a9cd1cfc3"),
    (UUID(int=7), '"00000000-0000-0000-0000-000000000007"', "cb6b165bde8d68ce"),
    ((1, (2, Colour.RED)), '[1,[2,"red"]]', "faf941fbf07b854b"),
    (Model(), '{"a":"1.50","b":1}', "13932d6d5ef9a621"),
]


@pytest.mark.parametrize(("value", "text", "begin"), GOLDEN, ids=[t for _, t, _ in GOLDEN])
def test_golden_vectors(value: Any, text: str, begin: str) -> None:
    assert canonical(value) == text
    assert digest(value)[:16] == begin


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSONS)
def test_reading_it_back_gives_the_same_text(value: Any) -> None:
    text = canonical(value)
    assert canonical(json.loads(text)) == text
    assert json.loads(text) == value


@given(st.dictionaries(st.text(), JSONS, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_count(value: Mapping[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert digest(dict(items)) == digest(value)


@given(JSONS, JSONS)
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (digest(one) == digest(other))


@pytest.mark.parametrize(
    "value",
    [
        *(float("nan"), float("inf"), {"a": [float("-inf")]}, {1, 2}, b"bytes", 1j),
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="not JSON"):
        canonical(value)


@pytest.mark.parametrize("key", [1, None, (1, 2), 1.5, True], ids=repr)
def test_keys_must_be_text(key: Any) -> None:
    with pytest.raises(InvalidInputError, match="a JSON key must be text"):
        canonical({"outer": {key: 1}})


def test_half_a_surrogate_pair_has_a_hash_of_its_own() -> None:
    assert len({digest("\ud800"), digest("\udc00"), digest("?"), digest("\ufffd")}) == 4
