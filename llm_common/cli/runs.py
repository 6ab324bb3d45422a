"""`llm-common runs`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rich.table import Table

from ..errors import InvalidInputError
from ..runs import find_runs
from .common import Where, money, out, print_json
from .report import show_analysis


async def runs(where: Where, run_id: str | None, *, as_json: bool) -> None:
    """Print the stored runs, or one of them whole."""
    tracker = await where.tracker()
    await tracker.flush()
    found = await find_runs(tracker.db, where.project, run_id=run_id)
    await tracker.aclose()
    if run_id is not None and len(found) != 1:
        which = "several runs start" if found else "no run starts"
        raise InvalidInputError(f"{which} with {run_id!r} in project {where.project}")
    if as_json:
        print_json(found[0] if run_id else found)
    elif run_id:
        _show(found[0])
    else:
        out.print(_table(found))


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(title="Runs, newest first", title_justify="left")
    for column in ("run", "unit", "status", "quality", "steps", "cost"):
        table.add_column(column)
    for run in found:
        done = sum(step["state"] == "done" for step in run["steps"])
        quality = run["quality_score"]
        table.add_row(
            run["id"][:8],
            run["unit_key"],
            run["status"],
            "" if quality is None else str(quality),
            f"{done} of {len(run['steps'])}",
            money(Decimal(run["cost_usd"])),
        )
    return table


def _show(run: Mapping[str, Any]) -> None:
    out.print(f"[bold]{run['unit_key']}[/bold]  {run['status']}  run {run['id']}")
    if run["error_message"]:
        out.print(f"[red]{run['error_class']}[/red]: {run['error_message']}")
    if run["analysis_json"]:
        show_analysis(run["analysis_json"], run["quality_score"])
    table = Table(title="Steps", title_justify="left")
    for column in ("step", "key", "state", "model", "tries"):
        table.add_column(column)
    for step in run["steps"]:
        key = step["key"] or ""
        table.add_row(
            step["step"], key[:50], step["state"], step["model"] or "", str(step["attempt"])
        )
    out.print(table)
    unpriced = f", {run['unpriced']} without a price" if run["unpriced"] else ""
    out.print(f"{run['attempts']} attempts, {money(Decimal(run['cost_usd']))}{unpriced}")
