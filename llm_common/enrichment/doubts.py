"""Weak cells in the review queue, and what persons have decided of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..review import Doubt, Review
from .models import Cell, EnrichedRow


def doubts_of(output: Mapping[str, Any]) -> list[Doubt]:
    """Return the cells of a row that have a value which no page bears out."""
    cells = {name: Cell.model_validate(cell) for name, cell in output["cells"].items()}
    return [doubt for name, cell in cells.items() if (doubt := _doubt(name, cell))]


def _doubt(name: str, cell: Cell) -> Doubt | None:
    if cell.is_settled or (cell.value is None and not cell.conflicts):
        return None
    likeliest = cell.value if cell.value is not None else cell.conflicts[0].value
    return Doubt(name, likeliest, cell.model_dump(mode="json"), cell.reason or cell.verdict)


def decided(row: EnrichedRow, reviews: Iterable[Review]) -> EnrichedRow:
    """Return a row as persons have left it."""
    cells = dict(row.cells)
    for review in reviews:
        if review.state != "open" and review.field in cells:
            cell = cells[review.field]
            cells[review.field] = cell.model_copy(
                update={"value": review.decided, "verdict": review.state, "reason": review.note}
            )
    values = {name: cell.value if cell.is_settled else None for name, cell in cells.items()}
    return row.model_copy(update={"cells": cells, "enriched_columns": values})
