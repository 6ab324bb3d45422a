"""Ids of rows, and rows that can have none of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.row_ids import Identified, check_keys, identified, row_id_of
from llm_common.enrichment.tables import open_table
from llm_common.errors import InvalidInputError
from tests.support import UNHURRIED, data_dir

GOLDEN = {
    ("Alex Lee", "CA"): "bb5169c7d18a315e",
    ("Ángel Łoś", 24): "659357b923925f76",
    ("", None): "5c76617eb701017a",
    ("東京", 1.5, True): "d7965bac867e906f",
}
"""A change here makes every row of every job a new one."""


@pytest.mark.parametrize(("values", "row_id"), GOLDEN.items())
def test_golden_ids(values: tuple[object, ...], row_id: str) -> None:
    assert row_id_of(values) == row_id


@pytest.mark.parametrize(
    "values",
    [
        ("ALEX  LEE", "ca"),
        (" Alex Lee\n", "CA "),
        ("Alex\u00a0Lee", "Ｃa"),
    ],
)
def test_what_reads_the_same_is_the_same(values: tuple[str, ...]) -> None:
    assert row_id_of(values) == row_id_of(("Alex Lee", "CA"))


def test_spellings_of_one_letter_and_of_one_number() -> None:
    assert row_id_of(["Jos\u00e9"]) == row_id_of(["Jose\u0301"])
    assert row_id_of([7]) == row_id_of(["7"]) == row_id_of([7.0])
    assert row_id_of([7.5]) != row_id_of([7])


def test_values_do_not_run_into_each_other() -> None:
    assert len({row_id_of(v) for v in (["a b", "c"], ["a", "b c"], ["a b c"], ["b c", "a"])}) == 4


def test_keys_that_a_table_lacks() -> None:
    columns = ("Full Name", "state", "party")
    check_keys(columns, ["state", "Full Name"])
    with pytest.raises(InvalidInputError) as caught:
        check_keys(columns, ["full_name", "county", "state"])
    assert str(caught.value) == (
        "the table has no column 'full_name', 'county' (is it 'Full Name'?): "
        "its columns are Full Name, state, party"
    )
    with pytest.raises(InvalidInputError, match=r"no column 'x': its columns are c0, .*c19, …$"):
        check_keys([f"c{n}" for n in range(50)], ["x"])
    with pytest.raises(InvalidInputError, match="no key column is named"):
        check_keys(columns, [])


def test_rows_with_a_problem_are_kept() -> None:
    table = [
        [{"name": "Ann", "state": "CA"}, {"name": "Ann", "state": None}],
        [{"name": "ann ", "state": "ca"}, {"name": " ", "state": ""}, {"name": "Bo", "state": 1}],
        [{"name": "ANN", "state": "CA"}, {"name": "Ann", "state": None}],
    ]
    got = list(identified(table, ["name", "state"]))
    assert [(row.number, row.problem) for row in got] == [
        (1, None),
        (2, "key column state is empty"),
        (3, "same keys as row 1"),
        (4, "key columns name, state are empty"),
        (5, None),
        (6, "same keys as row 1"),
        (7, "key column state is empty"),
    ]
    assert [row.data for row in got] == [row for batch in table for row in batch]
    assert len({row.row_id for row in got}) == 7
    assert got[0] == Identified(1, row_id_of(["Ann", "CA"]), table[0][0])


def test_a_real_table_has_an_id_for_every_row() -> None:
    table = open_table(data_dir("dotgov_domains.csv"))
    rows = list(identified(table.batches(), table.columns[:1]))
    assert len({row.row_id for row in rows}) == len(rows) == table.count == 16_539
    assert [row.number for row in rows if row.problem] == []


KEY = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.booleans()


@UNHURRIED
@given(st.lists(st.fixed_dictionaries({"a": KEY, "b": KEY}), max_size=40), st.integers(1, 7))
def test_ids_are_unique_and_no_row_is_lost(rows: list[dict[str, object]], size: int) -> None:
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    got = list(identified(batches, ["a", "b"]))
    assert [row.data for row in got] == rows
    assert len({row.row_id for row in got}) == len(rows)
    for row in got:
        assert row.problem or row.row_id == row_id_of([row.data["a"], row.data["b"]])
