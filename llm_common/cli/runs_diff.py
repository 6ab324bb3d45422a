"""`llm-common runs diff`."""

from __future__ import annotations

import dataclasses

from rich.table import Table
from rich.text import Text

from ..runs.diff import Comparison, Difference, Spent, diff
from .common import Where, money, out, print_json

MOST_ROWS = 60
SHOWN = 40
"""Characters of an output."""
WORDS = {
    "changed": "changed",
    "only_left": "left alone",
    "only_right": "right alone",
    "dearer": "the same, dearer",
    "cheaper": "the same, cheaper",
    "same": "the same",
}


async def show_diff(where: Where, left: str, right: str, *, as_json: bool) -> None:
    """Print what differs between two runs or jobs."""
    tracker = await where.tracker()
    await tracker.flush()
    try:
        found = await diff(tracker.db, where.project, left, right)
    finally:
        await tracker.aclose()
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    out.print(_summary(found))
    if found.differences:
        out.print(_table(found))


def _summary(found: Comparison) -> Table:
    counts = ", ".join(f"{count:,} {WORDS[kind]}" for kind, count in found.units.items())
    table = Table(title=f"Units: {counts or 'none'}", title_justify="left")
    for column in ("", found.left.kind, "cost", "tokens"):
        table.add_column(column, justify="right" if column in {"cost", "tokens"} else "left")
    sides = (("left", found.left, found.left_spent), ("right", found.right, found.right_spent))
    for name, side, spent in sides:
        table.add_row(name, Text(side.id), _cost(spent), f"{spent.tokens:,}")
    return table


def _table(found: Comparison) -> Table:
    table = Table(title="What differs", title_justify="left")
    for column in ("unit", "step", "how", "left", "right"):
        table.add_column(column, overflow="fold")
    for column in ("cost", "tokens"):
        table.add_column(column, justify="right")
    for one in found.differences[:MOST_ROWS]:
        before, after = one.left_spent, one.right_spent
        table.add_row(
            Text(one.unit_key if one.step is None else ""),
            Text(one.step or ""),
            WORDS[one.kind],
            Text(_seen(one, one.left)),
            Text(_seen(one, one.right)),
            _cost(before) if before == after else f"{_cost(before)} → {_cost(after)}",
            f"{before.tokens:,}" if before == after else f"{before.tokens:,} → {after.tokens:,}",
        )
    if len(found.differences) > MOST_ROWS:
        table.caption = f"and {len(found.differences) - MOST_ROWS} more: --json has them all"
    return table


def _seen(one: Difference, text: str | None) -> str:
    """Show how an output begins where it is what differs."""
    if one.kind in {"dearer", "cheaper"}:
        return ""
    text = text or "—"
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _cost(spent: Spent) -> str:
    return money(spent.cost_usd) + (f" + {spent.unpriced} unpriced" if spent.unpriced else "")
