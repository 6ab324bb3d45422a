"""CSV and its relatives: every value is the text that stands there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...errors import InvalidInputError
from .encodings import encoding_of
from .table import Table, named

SEPARATORS = (",", ";", "\t")
SNIFFED = 100
"""Records that tell the separator."""
LONGEST = 16 * 1024 * 1024
"""Characters of one value; more is a quote that was never closed."""
LISTED = 5
"""Broken lines that a message names."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is to be read."""

    path: Path
    encoding: str
    separator: str


def read_delimited(path: Path) -> Table:
    """Open a CSV file; all of it is read once, so that a broken one costs nothing but that.

    A record that is short lacks its last values; blank lines are none.

    Raises:
        InvalidInputError: it is empty, no text, or has records that do not fit its header.
    """
    # The limit belongs to the process; it is raised, for pages and evidence are longer than its
    # default, and never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    encoding = encoding_of(path)
    form = Form(path, encoding, _separator(path, encoding))
    records = _records(form)
    header = _header(records)
    columns = named(header, path.name)
    count, long = 0, list[int]()
    for line, record in records:
        count += 1
        if len(record) > len(columns) and any(record[len(columns) :]):
            long.append(line)
    if long:
        raise InvalidInputError(_too_long(path.name, long, len(columns)))
    return Table(columns, count, lambda: _rows(form, columns))


def _too_long(name: str, lines: list[int], width: int) -> str:
    listed = ", ".join(map(str, lines[:LISTED])) + (", …" if len(lines) > LISTED else "")
    records = "1 record has" if len(lines) == 1 else f"{len(lines)} records have"
    return (
        f"{name}: {records} more values than its {width} columns (line {listed}): "
        "put values that contain the separator in double quotes"
    )


def _rows(form: Form, columns: tuple[str, ...]) -> Iterator[list[str | None]]:
    width = len(columns)
    records = _records(form)
    if named(_header(records), form.path.name) != columns:
        raise InvalidInputError(f"{form.path.name} was changed since it was opened: open it anew")
    for line, record in records:
        if len(record) > width and any(record[width:]):
            raise InvalidInputError(_too_long(form.path.name, [line], width))
        yield [*record[:width], *[None] * (width - len(record))]


def _header(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    for _, record in records:
        return record
    return []


def _records(form: Form) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is no blank line, with the number of the line that it ends on."""
    name = form.path.name
    try:
        with form.path.open(encoding=form.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=form.separator, strict=True)
            try:
                for record in reader:
                    if record:
                        yield reader.line_num, record
            except csv.Error as error:
                raise InvalidInputError(
                    f'{name}: the quotes at line {reader.line_num} do not pair: write "" for a '
                    "quote inside a quoted value"
                ) from error
    except UnicodeError as error:
        raise InvalidInputError(
            f"{name} is in an encoding that can't be told: save it as UTF-8"
        ) from error
    except OSError as error:
        raise InvalidInputError(f"{name} can't be read: {error.strerror}") from error


def _separator(path: Path, encoding: str) -> str:
    """Return what most records agree on: the separator that cuts them as it cuts the header."""
    with path.open(encoding=encoding, newline="", errors="replace") as file:
        text = file.read(64 * 1024)
        is_cut = bool(file.read(1))
    order = (
        sorted(SEPARATORS, key=lambda s: s != "\t") if path.suffix.lower() == ".tsv" else SEPARATORS
    )
    # The first of those that are as good.
    return max(order, key=lambda separator: _fit(text, separator, is_cut))


def _fit(text: str, separator: str, is_cut: bool) -> tuple[bool, float, int]:
    # Not strict: quotes are judged once the separator is known.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    records = [record for record in islice(reader, SNIFFED) if record]
    if is_cut and len(records) > 1:
        del records[-1]
    widths = [len(record) for record in records] or [0]
    agreeing = widths.count(widths[0]) / len(widths)
    return widths[0] > 1 and agreeing >= 0.5, agreeing, widths[0]
