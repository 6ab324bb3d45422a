"""How well an enrichment did, by the truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from llm_common.enrichment.models import Cell, EnrichedRow

from .model import Model
from .people import plain
from .world import World


@dataclass(frozen=True)
class Wrong:
    """A cell whose value is marked as borne out and is not the true one.

    Attributes:
        mistakes: what the model is known to have done to this cell; empty if it misread a page.
    """

    row: tuple[str, str]
    column: str
    cell: Cell
    true: str | None
    mistakes: tuple[str, ...] = ()


@dataclass
class Score:
    """What became of all cells.

    Attributes:
        with_page: cells of which a page that may be read says the truth.
        right: those of them that are borne out with the true value.
        missed: the others of them, by verdict.
        wrong: must be empty.
        without_page: cells of which no such page says the truth.
        empty: those of them that have no value, and a reason.
        flagged: those of them that are not borne out, and have a reason; the empty ones included.
        cost_usd: of all rows; None if one is unknown.
        mistakes: of the model, by kind.
    """

    with_page: int = 0
    right: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    wrong: list[Wrong] = field(default_factory=list)
    without_page: int = 0
    empty: int = 0
    flagged: int = 0
    cost_usd: Decimal | None = Decimal(0)
    mistakes: Mapping[str, int] = field(default_factory=dict)

    @property
    def right_share(self) -> float:
        """Of cells with a page, how many are right; 1 if there are none."""
        return self.right / self.with_page if self.with_page else 1.0

    @property
    def empty_share(self) -> float:
        """Of cells without a page, how many are empty with a reason; 1 if there are none."""
        return self.empty / self.without_page if self.without_page else 1.0

    @property
    def usd_per_right_cell(self) -> Decimal | None:
        """What a right cell has cost, wrong turns included."""
        return None if self.cost_usd is None or not self.right else self.cost_usd / self.right

    def report(self) -> str:
        """Return the figures as text."""
        price = self.usd_per_right_cell
        return (
            f"{self.right} of {self.with_page} cells with a page are right "
            f"({self.right_share:.1%}), missed {dict(self.missed)}; "
            f"{len(self.wrong)} wrong ones are marked as borne out; "
            f"{self.empty} of {self.without_page} cells without a page are empty with a reason, "
            f"{self.flagged} are flagged; "
            f"{'unknown' if price is None else f'{price:.6f}'} USD per right cell; "
            f"mistakes of the model {dict(self.mistakes)}"
        )


def score(
    world: World,
    rows: Sequence[EnrichedRow],
    model: Model | None = None,
    columns: Sequence[str] | None = None,
) -> Score:
    """Compare rows with the truth.

    Args:
        columns: what was wanted; the columns of a row's cells by default.
    """
    made = Score(mistakes=model.counts if model else {})
    for row in rows:
        cost = row.metadata.cost_usd
        made.cost_usd = None if cost is None or made.cost_usd is None else made.cost_usd + cost
        for column in columns or row.cells:
            _count(made, world, row, column)
    if model:
        made.wrong = [replace(one, mistakes=_mistakes(model, one)) for one in made.wrong]
    return made


def _mistakes(model: Model, wrong: Wrong) -> tuple[str, ...]:
    where = wrong.row, wrong.column
    return tuple(m.kind for m in model.mistakes if (m.row, m.column) == where)


def _count(made: Score, world: World, row: EnrichedRow, column: str) -> None:
    cell = row.cells.get(column, Cell(reason=None))
    true = world.truth(row.original_data, column).value
    key = (row.original_data["name"], row.original_data["state"])
    if cell.is_settled and (true is None or not same(column, cell.value, true)):
        made.wrong.append(Wrong(key, column, cell, true))
    if true is None:
        made.without_page += 1
        made.empty += cell.value is None and bool(cell.reason)
        made.flagged += not cell.is_settled and bool(cell.reason)
        return
    made.with_page += 1
    if cell.is_settled and same(column, cell.value, true):
        made.right += 1
    else:
        made.missed[cell.verdict] += 1


def same(column: str, said: Any, true: str) -> bool:
    """Say whether a value is the true one, whatever its notation."""
    text = str(said)
    match column:
        case "phone":
            return _digits(text)[-10:] == _digits(true)
        case "email":
            return text.casefold() == true.casefold()
        case "party":
            return plain(text).strip("( )")[:1] == plain(true)[:1]
        case "district":
            return _digits(text).lstrip("0") == true
        case _:
            return _letters(text) == _letters(true)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", plain(text))
