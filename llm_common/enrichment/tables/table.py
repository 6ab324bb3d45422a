"""A table that is read, wherever it lies, and the values in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Any, cast

from ...errors import InvalidInputError

Row = dict[str, Any]

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be read from its beginning as often as need be.

    Attributes:
        columns: their names, each one once.
        count: its rows, the header not among them; None if only reading it would tell.
        read: yields the values of each row, in the order of `columns`; `batches` is for hosts.
    """

    columns: tuple[str, ...]
    count: int | None
    read: Callable[[], Iterator[Sequence[Any]]]

    def batches(self, size: int = BATCH) -> Iterator[list[Row]]:
        """Yield the rows by `size`, each a dictionary of what JSON can hold, None where empty.

        Raises:
            InvalidInputError: the table can't be read further, or `size` is less than 1.
            DatabaseUnavailableError: the database of a query can't be reached.
        """
        if size < 1:
            raise InvalidInputError("a batch has at least one row: pass size=1 or more")
        rows = self.read()
        while batch := list(islice(rows, size)):
            yield [
                {name: plain(value) for name, value in zip(self.columns, row, strict=True)}
                for row in batch
            ]


def plain(value: Any) -> Any:
    """Return a value of a table as JSON holds it; an empty one is None.

    Dates become ISO 8601, decimals and what else has no JSON of its own their text, bytes
    hexadecimal. NUL characters, which no database takes, are left out.
    """
    if isinstance(value, str):
        return value.replace("\0", "") or None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else (None if math.isnan(value) else str(value))
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        given = cast("Mapping[Any, Any]", value)
        return {str(key): plain(one) for key, one in given.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in cast("Iterable[Any]", value)]
    return str(value)


def named(header: Sequence[Any], what: str) -> tuple[str, ...]:
    """Return the names of columns; one without a name is called by its place, ``column 3``.

    Raises:
        InvalidInputError: there are none, or a name stands twice.
    """
    names = tuple(
        str(plain(name) or f"column {place}") for place, name in enumerate(header, start=1)
    )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        listed = ", ".join(repr(name) for name in twice)
        raise InvalidInputError(f"{what} has several columns called {listed}: rename all but one")
    if not names:
        raise InvalidInputError(f"{what} has no columns")
    return names
