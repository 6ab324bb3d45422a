"""A table with what was found for it, as a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence, Sized
from itertools import count
from pathlib import Path
from typing import Any, get_args

from ...errors import InvalidInputError
from ..atomic import replacing
from ..models import Column, EnrichedRow
from .cells import clean, guarded, written
from .layout import Layout, Placement, layout
from .parquet import write_parquet
from .workbook import check_size, write_workbook

Write = Callable[[Path, Layout, Iterable[EnrichedRow]], None]


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[EnrichedRow],
    wanted: Sequence[Column],
    *,
    evidence: str | None = None,
) -> int:
    """Write enriched rows to a file, known by its ending, and return how many there were.

    Original columns come first, as they were; then a column for each wanted one (``phone``, or
    ``phone (found)`` where the table has that name), evidence, ``enrichment status`` and
    ``enrichment error``. Rows are written as they come, to a temporary file that then takes the
    place of `path`: whoever reads that sees the old file or the whole new one. The call blocks.

    Args:
        path: a path that ends in .csv, .tsv, .xlsx, .parquet, .json or .jsonl.
        columns: the original columns, in their order.
        rows: rows; an iterator will do.
        evidence: ``columns``, several for each wanted column; ``sheet``, a second sheet with a
            line for each cell and for each conflicting value; ``json``, one column, and in .json
            and .jsonl the whole row with its cells; ``none``. None means ``sheet`` for .xlsx,
            ``json`` for .json and .jsonl, else ``columns``.

    Raises:
        InvalidInputError: the format, the folder or the placement does not exist, or the table
            does not fit an Excel sheet.
        MissingExtraError: the extra `tables` is not installed; CSV and JSON need none.
    """
    write, placement = check_target(path, evidence)
    target, form = Path(path), layout(columns, wanted, placement)
    if target.suffix.lower() == ".xlsx":
        # Before anything is written, where the number of rows is known.
        check_size(len(rows) if isinstance(rows, Sized) else 0, len(form.header))
    written_rows = count()
    with replacing(target) as temporary:
        write(temporary, form, (row for row, _ in zip(rows, written_rows, strict=False)))
    return next(written_rows)


def check_target(path: str | Path, evidence: str | None = None) -> tuple[Write, Placement]:
    """Check where a table is to go before anybody pays for its rows; see `write_table`.

    Raises:
        InvalidInputError: the format, the folder or the placement does not exist.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInputError(
            f"{target.name!r} does not say its format: end it in {', '.join(FORMATS)}"
        )
    if target.is_dir():
        raise InvalidInputError(f"{target} is a folder: name a file in it")
    if not target.parent.is_dir():
        raise InvalidInputError(f"there is no folder {target.parent}: make it first")
    if evidence == "sheet" and suffix != ".xlsx":
        raise InvalidInputError(f"{suffix} has no sheets: pass evidence='columns' or 'json'")
    write, usual = FORMATS[suffix]
    for known in get_args(Placement):
        if (evidence or usual) == known:
            return write, known
    raise InvalidInputError(
        f"evidence={evidence!r} is no placement: use one of {', '.join(get_args(Placement))}"
    )


def _delimited(separator: str) -> Write:
    def write(path: Path, form: Layout, rows: Iterable[EnrichedRow]) -> None:
        kept = len(form.original)
        with path.open("w", encoding="utf-8", newline="") as file:
            # With this line end, values that hold half of it are quoted as well.
            out = csv.writer(file, delimiter=separator, lineterminator="\r\n")
            out.writerow([clean(name) for name in form.header])
            for row in rows:
                values = form.values(row)
                found = [guarded(value) for value in values[kept:]]
                out.writerow([written(value) for value in values[:kept]] + found)

    return write


def _json_text(form: Layout, row: EnrichedRow) -> str:
    value: dict[str, Any] = (
        row.model_dump(mode="json")
        if form.evidence == "json"
        else dict(zip(form.header, form.values(row), strict=True))
    )
    # An amount of money is text: JSON's numbers are read as floats.
    return clean(json.dumps(value, ensure_ascii=False, default=written))


def _write_json(path: Path, form: Layout, rows: Iterable[EnrichedRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        before = "[\n"
        for row in rows:
            file.write(before + _json_text(form, row))
            before = ",\n"
        file.write("\n]\n" if before != "[\n" else "[]\n")


def _write_json_lines(path: Path, form: Layout, rows: Iterable[EnrichedRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(_json_text(form, row) + "\n" for row in rows)


FORMATS: dict[str, tuple[Write, Placement]] = {
    ".csv": (_delimited(","), "columns"),
    ".tsv": (_delimited("\t"), "columns"),
    ".xlsx": (write_workbook, "sheet"),
    ".parquet": (write_parquet, "columns"),
    ".json": (_write_json, "json"),
    ".jsonl": (_write_json_lines, "json"),
}
"""Ending -> how it is written, and where evidence goes unless told."""
