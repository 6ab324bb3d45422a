"""Parquet files, in and out, a part at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from ...extras import require
from ..models import EnrichedRow
from .cells import clean, written
from .failures import failures
from .layout import SCALE, Layout
from .table import Table, named

SLICE = 20_000
"""Rows that are read at once. Larger ones are no faster; row groups may be of any size."""

GROUP = 50_000
"""Rows that are in memory together when they are written."""

TEXT = "String"
KINDS = {
    "integer": ({"int", "long"}, "Int64"),
    "number": ({"int", "float"}, "Float64"),
    "boolean": ({"bool"}, "Boolean"),
    "money": ({"money"}, "Decimal"),
}
"""Type of a column -> the kinds of values that it may hold, and how Parquet calls it."""


def read_parquet(path: Path) -> Table:
    """Open a Parquet file; what is read of it is its footer.

    Raises:
        InvalidInputError: it is damaged or no Parquet file.
        MissingExtraError: the extra `tables` is not installed.
    """
    polars = require("polars", "tables")
    with failures(partial(_damaged, path)):
        frame = polars.scan_parquet(path, glob=False)
        columns = named(frame.collect_schema().names(), path.name)
        count = int(frame.select(polars.len()).collect().item())
    return Table(columns, count, partial(_rows, path, frame, count))


def _rows(path: Path, frame: Any, count: int) -> Iterator[tuple[Any, ...]]:
    with failures(partial(_damaged, path)):
        for start in range(0, count, SLICE):
            yield from frame.slice(start, SLICE).collect().iter_rows()


def _damaged(path: Path, _: BaseException) -> str:
    return f"{path.name} is damaged or no Parquet file: write it anew"


def write_parquet(path: Path, form: Layout, rows: Iterable[EnrichedRow]) -> None:
    """Write a Parquet file as a stream.

    A column has the type that fits all its values, and is text if none does. That is known when
    all rows are, so they wait in a file of JSON lines beside `path`.
    """
    polars = require("polars", "tables")
    spool = path.with_name(path.name + ".jsonl")
    try:
        kinds: list[set[str]] = [set() for _ in form.header]
        _spool(spool, form, rows, kinds)
        types = [_type_of(hint, seen) for hint, seen in zip(form.types, kinds, strict=True)]
        # Decimals are parsed from text: JSON's numbers would make floats of them.
        read = [TEXT if name == "Decimal" else name for name in types]
        schema = {str(i): getattr(polars, name) for i, name in enumerate(read)}
        # The file is mapped: what it takes of memory, the system can take back.
        some = spool.stat().st_size > 0
        frame = polars.scan_ndjson(spool, schema=schema) if some else polars.LazyFrame([], schema)
        money = [str(i) for i, name in enumerate(types) if name == "Decimal"]
        frame = frame.with_columns(polars.col(money).cast(polars.Decimal(38, SCALE)))
        names = {str(i): clean(name) for i, name in enumerate(form.header)}
        frame.rename(names).sink_parquet(path, row_group_size=GROUP)
    finally:
        spool.unlink(missing_ok=True)


def _spool(path: Path, form: Layout, rows: Iterable[EnrichedRow], kinds: list[set[str]]) -> None:
    """Write rows as JSON lines, and note what kinds of values each column has."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            line: dict[str, Any] = {}
            for at, value in enumerate(form.values(row)):
                if value is not None:
                    kind = _kind(value)
                    kinds[at].add(kind)
                    line[str(at)] = written(value) if kind in {"text", "money"} else value
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        size = abs(value)
        return "int" if size < 2**53 else "long" if size < 2**63 else "text"
    if isinstance(value, float):
        return "float" if math.isfinite(value) else "text"
    return "money" if isinstance(value, Decimal) else "text"


def _type_of(hint: str, seen: set[str]) -> str:
    """Return the type of a column, from what it was said to be and the values that it has."""
    if hint in KINDS:
        fitting, name = KINDS[hint]
        if seen <= fitting:
            return name
    if not seen or hint not in {"", *KINDS}:
        return TEXT
    return next((name for kinds, name in KINDS.values() if seen <= kinds), TEXT)
