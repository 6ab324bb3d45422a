"""Spreadsheets: Excel in its old and new formats, OpenDocument."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError
from ...extras import require
from .failures import failures
from .table import Table, named

COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""The stream that holds a workbook which was saved with a password."""

DAY_ZERO = "1899-12-31"
"""Of Excel's calendar: a time without a date is on it."""
MIDNIGHT = "00:00:00"
EXACT = 2**53
"""Integers below it are themselves as a float."""
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d(?:\.\d+)?)")

PROTECTED = "{} is password-protected: save it without a password"
DAMAGED = "{} is damaged or no spreadsheet: open it in a spreadsheet program and save it anew"


def read_sheet(path: Path, sheet: str | None = None) -> Table:
    """Open a sheet of a workbook, the first if none is named; it is held in memory.

    Raises:
        InvalidInputError: it is damaged, password-protected or empty, or has no such sheet.
        MissingExtraError: the extra `tables` is not installed.
    """
    if _is_encrypted(path):
        raise InvalidInputError(PROTECTED.format(path.name))
    fastexcel = require("fastexcel", "tables")
    with failures(partial(_failure, path)):
        book = fastexcel.read_excel(path)
        names: list[str] = book.sheet_names
        if sheet is not None and sheet not in names:
            raise InvalidInputError(
                f"{path.name} has no sheet {sheet!r}: its sheets are {', '.join(names)}"
            )
        if not names:
            raise InvalidInputError(f"{path.name} has no sheets")
        return _table(book, sheet or names[0], path.name)


def _failure(path: Path, error: BaseException) -> str:
    said = PROTECTED if "password" in str(error).lower() else DAMAGED
    return said.format(path.name)


def _is_encrypted(path: Path) -> bool:
    if not path.stat().st_size:
        raise InvalidInputError(f"{path.name} is empty")
    with path.open("rb") as file:
        if file.read(len(COMPOUND_FILE)) != COMPOUND_FILE:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(ENCRYPTED) >= 0


def _table(book: Any, sheet: str, name: str) -> Table:
    what = f"sheet {sheet!r} of {name}"
    load = partial(book.load_sheet, sheet, header_row=None)
    # As texts first: typed columns lose the cells that are not of their type.
    texts = load(skip_rows=0, dtypes="string").to_polars()
    filled = _filled(texts)
    if not filled:
        raise InvalidInputError(f"{what} is empty: its first row must name the columns")
    header, last = filled[0], filled[-1]
    columns = named(texts.row(header), what)
    # Formatted cells without content stretch a sheet beyond its last row.
    texts = texts.slice(header + 1, last - header)
    if not texts.height:
        return Table(columns, 0, lambda: iter(()))
    empty = {i: "string" for i in range(texts.width) if texts[:, i].null_count() == texts.height}
    typed = load(skip_rows=header + 1, schema_sample_rows=None, dtypes=empty or None).to_polars()
    typed = typed.slice(0, texts.height)
    return Table(columns, texts.height, partial(_rows, texts, typed))


def _filled(texts: Any) -> list[int]:
    """Return which rows hold anything."""
    if not texts.width:
        return []
    polars = require("polars", "tables")
    filled = texts.select(polars.any_horizontal(polars.all().fill_null("") != ""))
    return filled.to_series().arg_true().to_list()


def _rows(texts: Any, typed: Any) -> Iterator[list[Any]]:
    """Yield rows with the types that columns have as a whole, and as texts where they have none."""
    readers = [_reader(texts[:, i], typed[:, i]) for i in range(texts.width)]
    for as_text, as_type in zip(texts.iter_rows(), typed.iter_rows(), strict=True):
        cells = zip(readers, as_text, as_type, strict=True)
        yield [read(text, value) for read, text, value in cells]


def _reader(text: Any, typed: Any) -> Callable[[str | None, Any], Any]:
    """Choose how the cells of a column are read."""
    lost = typed.null_count() > text.null_count()
    if typed.dtype.is_temporal():
        return _moment if lost or typed.dtype != require("polars", "tables").Duration else _typed
    if typed.dtype.is_numeric() and text.is_in(["true", "false"]).any():
        return _text
    return _text if lost else _typed


def _text(text: str | None, _: Any) -> Any:
    return text


def _typed(_: str | None, value: Any) -> Any:
    """Return a cell; a spreadsheet does not tell 1 from 1.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value


def _moment(text: str | None, _: Any) -> Any:
    """Return a date without midnight, a time without the day that calendars begin on."""
    found = MOMENT.fullmatch(text) if text else None
    if not found:
        return text
    day, time = found.groups()
    if day == DAY_ZERO:
        return time
    return day if time == MIDNIGHT else f"{day}T{time}"
