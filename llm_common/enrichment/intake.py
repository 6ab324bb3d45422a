"""From the rows of a table to the units of a job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ..runs import NewUnit, Outcome
from .row_ids import Identified

Rows = Iterable[Mapping[str, Any]]
BATCH = 500


def peeked(rows: Rows) -> tuple[Mapping[str, Any] | None, Iterator[Mapping[str, Any]]]:
    """Return the first row of a table, and all of them."""
    iterator = iter(rows)
    first = next(iterator, None)

    def whole() -> Iterator[Mapping[str, Any]]:
        if first is not None:
            yield first
        yield from iterator

    return first, whole()


def batched(rows: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Yield rows some hundred at a time."""
    while batch := list(islice(rows, BATCH)):
        yield batch


def units_for(rows: Iterable[Identified]) -> Iterator[NewUnit]:
    """Yield the unit of each row; one with a problem is skipped from the start, and kept."""
    for row in rows:
        problem = None
        if row.problem:
            is_empty = row.problem.startswith("key column")
            outcome = Outcome.EMPTY_KEY if is_empty else Outcome.DUPLICATE_KEY
            problem = (outcome, row.problem)
        given = {"data": row.data, "number": row.number}
        yield NewUnit(row.row_id, given, problem)
