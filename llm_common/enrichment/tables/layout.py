"""What stands where in a written table: pure, the same for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, count
from typing import Any, Literal

from ..models import Cell, Column, EnrichedRow, Evidence

Placement = Literal["columns", "sheet", "json", "none"]

EVIDENCE = {
    "quote": "text",
    "source": "text",
    "verdict": "text",
    "confidence": "number",
    "cost_usd": "money",
    "reason": "text",
    "conflicts": "text",
}
"""What is added to the name of a wanted column, for evidence as columns, and its type."""

SHEET = (
    "row", "row_id", "column", "role", "value", "verdict", "quote", "source", "dated",
    "is_official", "confidence", "cost_usd", "reason",
)  # fmt: skip
"""Columns of the sheet of evidence; `row` is the row's number in the spreadsheet."""

SCALE = 12
"""Decimals of an amount of money, as in the ledger; a cell's part of a cost may have more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a written table.

    Attributes:
        original: columns of the source, in its order.
        wanted: columns that were wanted.
        evidence: where evidence goes.
        header: names of all columns, each one once.
        types: of all columns, as `Column.type` names them, and ``money``; of an original one "".
    """

    original: tuple[str, ...]
    wanted: tuple[Column, ...]
    evidence: Placement
    header: tuple[str, ...]
    types: tuple[str, ...]

    def values(self, row: EnrichedRow) -> list[Any]:
        """Return a row's values, in the order of `header`."""
        values = [row.original_data.get(name) for name in self.original]
        values.extend(row.enriched_columns.get(column.name) for column in self.wanted)
        if self.evidence == "columns":
            for column in self.wanted:
                values.extend(_evidence(row.cells.get(column.name) or Cell()))
        elif self.evidence == "json":
            values.append({name: proof(cell) for name, cell in row.cells.items()})
        return [*values, row.status.value, row.error]


def layout(columns: Sequence[str], wanted: Sequence[Column], evidence: Placement) -> Layout:
    """Lay out a table: original columns, then values, evidence, and how each row ended.

    What was there keeps its name: of a new column that has it already the name gets a suffix.
    """
    header = list(columns)
    for column in wanted:
        header.append(_free(column.name, header))
    added: list[tuple[str, str]] = []
    if evidence == "columns":
        names = header[len(columns) :]
        added.extend((f"{name} {part}", kind) for name in names for part, kind in EVIDENCE.items())
    elif evidence == "json":
        added.append(("evidence", "text"))
    added.extend((f"enrichment {name}", "text") for name in ("status", "error"))
    for name, _ in added:
        header.append(_free(name, header))
    types = ("",) * len(columns), (one.type for one in wanted), (kind for _, kind in added)
    return Layout(tuple(columns), tuple(wanted), evidence, tuple(header), tuple(chain(*types)))


def _free(name: str, taken: Sequence[str]) -> str:
    """Return a name that no column has, told apart without case, as SQL and spreadsheets do."""
    used = {one.casefold() for one in taken}
    if name.casefold() not in used:
        return name
    tries = (f"{name} (found)" if n == 1 else f"{name} (found {n})" for n in count(1))
    return next(one for one in tries if one.casefold() not in used)


def _evidence(cell: Cell) -> list[Any]:
    return [
        cell.quote,
        cell.url,
        cell.verdict,
        round(cell.confidence, 4),
        money(cell.cost_usd),
        cell.reason,
        "; ".join(_other(one) for one in cell.conflicts) or None,
    ]


def _other(found: Evidence) -> str:
    where = f" ({found.url})" if found.url else ""
    return f"{found.value}{where}"


def money(amount: Decimal | None) -> Decimal | None:
    """Return an amount of USD as the ledger writes it."""
    return None if amount is None else round(amount, SCALE).normalize()


def proof(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON, without what it does not have."""
    found = cell.model_dump(mode="json", exclude_defaults=True, exclude={"cost_usd"})
    cost = money(cell.cost_usd)
    price = None if cost is None else format(cost, "f")
    return {**found, "verdict": cell.verdict, "cost_usd": price}


def sheet_rows(row: EnrichedRow, wanted: Sequence[Column], number: int) -> list[list[Any]]:
    """Return a row's lines of the sheet of evidence: of each cell its value, then the conflicts."""
    lines: list[list[Any]] = []
    for column in wanted:
        cell = row.cells.get(column.name) or Cell()
        of = [number, row.row_id, column.name]
        tail = [round(cell.confidence, 4), money(cell.cost_usd), cell.reason]
        where = [cell.verdict, cell.quote, cell.url, None, None]
        lines.append([*of, "value", cell.value, *where, *tail])
        for one in cell.conflicts:
            where = [one.verdict, one.quote, one.url, one.dated, one.is_official]
            lines.append([*of, "conflict", one.value, *where, None, None, one.reason])
    return lines
