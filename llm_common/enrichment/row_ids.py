"""Which row is which: a stable id from its key values.

Version 1: the golden vectors are in the tests. A change here makes every row of every job a new
one, which is looked up and paid for again.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..errors import InvalidInputError
from ..runs.canonical import digest

LENGTH = 16
"""Hex digits of an id: two of a million rows share one by chance once in 37 million tables."""

NAMED = 20
"""Columns that a message lists at most."""


@dataclass(frozen=True, slots=True)
class Identified:
    """A row with its id.

    Attributes:
        number: its place in the table, from 1; the header is none.
        row_id: unique in the table.
        data: its columns by name.
        problem: why it can't be enriched, such as ``key column state is empty``; None if it can.
    """

    number: int
    row_id: str
    data: Mapping[str, Any]
    problem: str | None = None


def folded(value: Any) -> str:
    """Return a key value as ids see it: one spelling for what a reader takes for the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def row_id_of(values: Sequence[Any]) -> str:
    """Return the id of a row from its key values, in the order of the key columns.

    Case, white space around and between words, and Unicode's several spellings of one letter
    make no difference; neither does whether 7 is a number or a text.
    """
    return digest([folded(value) for value in values])[:LENGTH]


def check_keys(columns: Sequence[str], keys: Sequence[str]) -> None:
    """See to it that a table has its key columns.

    Raises:
        InvalidInputError: one is missing; the message names those there are.
    """
    if not keys:
        raise InvalidInputError("no key column is named: name those that say what a row is about")
    missing = [key for key in keys if key not in columns]
    if not missing:
        return
    there = ", ".join(columns[:NAMED]) + (", …" if len(columns) > NAMED else "")
    near = _near(columns, missing[0])
    hint = f" (is it {near!r}?)" if near else ""
    names = ", ".join(repr(name) for name in missing)
    raise InvalidInputError(f"the table has no column {names}{hint}: its columns are {there}")


def _near(columns: Sequence[str], name: str) -> str | None:
    """Return the column that was probably meant."""
    by_fold = {folded(column).replace("_", " "): column for column in reversed(columns)}
    near = get_close_matches(folded(name).replace("_", " "), by_fold, n=1, cutoff=0.75)
    return by_fold[near[0]] if near else None


def identified(
    batches: Iterable[Sequence[Mapping[str, Any]]], keys: Sequence[str]
) -> Iterator[Identified]:
    """Yield every row of a table with its id, those that have a problem too.

    A row with an empty key, or with the keys of an earlier row, has a problem; its id is unique
    all the same. About 130 bytes are kept for each row.
    """
    first: dict[str, int] = {}
    number = 0
    for batch in batches:
        for data in batch:
            number += 1
            yield _identified(number, data, keys, first)


def _identified(
    number: int, data: Mapping[str, Any], keys: Sequence[str], first: dict[str, int]
) -> Identified:
    values = [folded(data.get(key)) for key in keys]
    row_id = row_id_of([data.get(key) for key in keys])
    empty = [key for key, value in zip(keys, values, strict=True) if not value]
    if empty:
        words = "key column {} is empty" if len(empty) == 1 else "key columns {} are empty"
        problem = words.format(", ".join(empty))
    elif (earlier := first.setdefault(row_id, number)) != number:
        problem = f"same keys as row {earlier}"
    else:
        return Identified(number, row_id, data)
    # One value more than there are keys: no other row's id is made of that.
    return Identified(number, digest([*values, f"row {number}"])[:LENGTH], data, problem)
