"""`llm-common costs reconcile`."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from .. import admin
from ..admin import Reconciliation
from ..providers import billing
from .common import Where, money, out, print_json
from .costs import Days, span_of


async def reconcile(where: Where, days: Days, provider: str | None, *, as_json: bool) -> bool:
    """Print what differs, and return whether all is equal.

    Without a provider those are asked whose admin key is in the environment.
    """
    start, end = span_of(days)
    providers = [provider] if provider else billing.with_key()
    tracker = await where.tracker()
    found = await admin.reconcile(tracker.db, where.project, start, end, providers)
    await tracker.aclose()
    if as_json:
        print_json(_plain(found))
    else:
        _print(found)
    return not found.differences


def _plain(found: Reconciliation) -> dict[str, object]:
    plain = asdict(found)
    plain["differences"] = [{**asdict(d), "by": d.by} for d in found.differences]
    return {"equal": not found.differences, **plain}


def _print(found: Reconciliation) -> None:
    out.print(f"{escape(found.project)}, {found.start} to {found.end}")
    for d in found.differences:
        by = f"{'+' if d.by > 0 else '-'}{money(abs(d.by))}"
        figures = f"{money(d.found)}, expected {money(d.expected)} ({by})"
        out.print(f"[red]✗[/red] {d.kind}: {escape(d.about)}: {figures}")
        out.print(f"  {escape(d.cause)}")
    if found.days:
        out.print(_bills(found))
    for note in found.notes:
        out.print(f"[yellow]·[/yellow] {escape(note)}")
    if found.estimated_rows:
        sum_ = money(found.estimated_usd)
        out.print(f"[yellow]·[/yellow] {found.estimated_rows} rows are estimated, {sum_} in all")
    if found.unpriced_rows:
        out.print(f"[yellow]·[/yellow] {found.unpriced_rows} rows have an unknown price")
    if not found.differences:
        out.print("[green]✓[/green] the ledger, the counters and what is held agree")


def _bills(found: Reconciliation) -> Table:
    table = Table(title="Bills, beside the ledger of all projects", title_justify="left")
    for column in ("provider", "day", "billed", "certain", "possible", "estimated", "unpriced"):
        left = column in ("provider", "day")
        table.add_column(column, justify="left" if left else "right")
    for d in found.days:
        sums = (money(d.billed), money(d.certain), money(d.possible))
        table.add_row(d.provider, str(d.day), *sums, str(d.estimated), str(d.unpriced))
    return table
