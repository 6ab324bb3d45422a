"""Workbooks: everything that is text is written as text, never as a formula or a link."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError
from ...extras import require
from ..models import EnrichedRow
from .cells import flat, sheet_text, written
from .layout import SHEET, Layout, sheet_rows

ROWS = 1_048_576
"""Of an Excel sheet, the header among them."""
COLUMNS = 16_384
DIGITS = 15
"""Of a number in Excel; a longer one would lose the rest."""

OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def check_size(rows: int, columns: int) -> None:
    """See to it that a table fits a sheet.

    Raises:
        InvalidInputError: it does not.
    """
    if rows + 1 > ROWS:
        raise InvalidInputError(
            f"an Excel sheet holds {ROWS - 1:,} rows and a header, and there are more: "
            "write .csv or .parquet"
        )
    if columns > COLUMNS:
        raise InvalidInputError(
            f"an Excel sheet holds {COLUMNS:,} columns, not {columns:,}: write .csv or .parquet"
        )


def write_workbook(path: Path, form: Layout, rows: Iterable[EnrichedRow]) -> None:
    """Write a workbook row by row."""
    with require("xlsxwriter", "tables").Workbook(str(path), OPTIONS) as book:
        table = _Sheet(book, "Table", form.header)
        evidence = _Sheet(book, "Evidence", SHEET) if form.evidence == "sheet" else None
        for count, row in enumerate(rows, start=1):
            check_size(count, len(form.header))
            table.write(form.values(row))
            if evidence:
                for line in sheet_rows(row, form.wanted, count + 1):
                    evidence.write(line)


class _Sheet:
    """A sheet that is written from top to bottom; a full one goes on in another."""

    def __init__(self, book: Any, name: str, header: Sequence[str]) -> None:
        self._book, self._name, self._header = book, name, header
        self._bold = book.add_format({"bold": True})
        self._sheets = 0
        self._begin()

    def _begin(self) -> None:
        self._sheets += 1
        name = self._name if self._sheets == 1 else f"{self._name} {self._sheets}"
        self._sheet = self._book.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        for at, title in enumerate(self._header):
            self._sheet.write_string(0, at, sheet_text(title), self._bold)
        self._row = 1

    def write(self, values: Sequence[Any]) -> None:
        """Write one row."""
        if self._row == ROWS:
            self._begin()
        for at, value in enumerate(values):
            _put(self._sheet, self._row, at, flat(value))
        self._row += 1


def _put(sheet: Any, row: int, column: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif _is_number(value):
        sheet.write_number(row, column, float(value))
    else:
        sheet.write_string(row, column, sheet_text(written(value)))


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < 10**DIGITS
    return isinstance(value, Decimal) or (isinstance(value, float) and math.isfinite(value))
