"""`llm-common migrate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.prompt import Confirm
from rich.table import Table

from .. import settings
from ..database import migrations
from ..errors import InvalidInputError, MigrationError
from .common import Where, out, print_json

FOLDERS = {"supabase": Path("supabase/migrations"), "psql": Path("migrations")}
"""Where each tool looks for its files."""


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


def emit(tool: str, to: Path | None, *, as_json: bool) -> None:
    """Write the migrations as files for another tool, and print how they are applied.

    Raises:
        InvalidInputError: there is no such tool.
        MigrationError: a file is there and differs, or the folder can't be written.
    """
    if tool not in FOLDERS:
        raise InvalidInputError(f"no files for {tool!r}: write --for supabase or --for psql")
    folder = to or FOLDERS[tool]
    written = migrations.emit(folder, _schema(), rollbacks=tool == "psql")
    forward = [path for path in written if path.parent == folder]
    apply = (_psql(forward) if tool == "psql" else "supabase db push") if forward else None
    if as_json:
        print_json({"folder": str(folder), "written": list(map(str, written)), "apply": apply})
        return
    for path in written:
        out.print(f"wrote {path}", soft_wrap=True, markup=False, highlight=False)
    for line in _advice(folder, tool, apply):
        out.print(line, soft_wrap=True, markup=False, highlight=False)


def _psql(files: Sequence[Path]) -> str:
    named = " ".join(f"-f {shlex.quote(str(path))}" for path in files)
    return f'psql "$DATABASE_URL" -v ON_ERROR_STOP=1 {named}'


def _advice(folder: Path, tool: str, apply: str | None) -> list[str]:
    known = "`llm-common migrate status` says which are applied"
    if apply is None:
        return [f"nothing to write: every migration is in {folder}; {known}"]
    lines = [f"apply them, in this order: {apply}", known]
    if tool == "psql":
        lines.append(f"{folder / 'rollback'} takes them back, the newest first")
    return lines
