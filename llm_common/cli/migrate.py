"""`llm-common migrate`."""

from __future__ import annotations

import sys

from rich.prompt import Confirm
from rich.table import Table

from .. import settings
from ..database import migrations
from ..errors import InvalidInputError, MigrationError
from .common import Where, out, print_json


def _schema() -> str:
    return settings.setting("schema").value or "public"


async def up(where: Where) -> None:
    """Apply what is pending."""
    applied = await migrations.up(where.database, _schema())
    for migration in applied:
        out.print(f"applied {migration.version} {migration.name}")
    if not applied:
        out.print("nothing to apply: the schema is up to date")


async def down(where: Where, to: str | None, *, everything: bool, yes: bool) -> None:
    """Take migrations back, once the user has said yes."""
    if (to is None) == (not everything):
        raise InvalidInputError("say how far down: --to VERSION, or --all")
    question = "This drops tables of llm_common with their rows. Go on?"
    if not yes and not (sys.stdin.isatty() and Confirm.ask(question, default=False)):
        raise InvalidInputError("nothing was taken back: pass --yes to drop tables with their rows")
    for migration in await migrations.down(where.database, _schema(), to=to or "all"):
        out.print(f"took back {migration.version} {migration.name}")


async def status(where: Where, *, as_json: bool) -> None:
    """Print where every migration stands."""
    rows = await migrations.status(where.database, _schema())
    if as_json:
        print_json([{"version": r.version, "name": r.name, "state": r.state} for r in rows])
        return
    table = Table("version", "name", "state", "applied at")
    for row in rows:
        at = row.applied_at.strftime("%Y-%m-%d %H:%M:%S") if row.applied_at else ""
        table.add_row(row.version, row.name, row.state, at)
    out.print(table)


async def verify(where: Where, *, as_json: bool) -> None:
    """Print what differs from the migrations.

    Raises:
        MigrationError: something does.
    """
    problems = await migrations.verify(where.database, _schema())
    if as_json:
        print_json(problems)
    for problem in problems if not as_json else ():
        out.print(f"[red]✗[/red] {problem}")
    if problems:
        raise MigrationError(f"the database differs from the migrations in {len(problems)} points")
    if not as_json:
        out.print("[green]✓[/green] the database is as the migrations made it, and closed")
