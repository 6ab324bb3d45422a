"""Apply migrations, and take them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ...errors import MigrationError
from .files import Migration, read
from .session import Applied, session

State = Literal["applied", "pending", "changed", "unknown"]


@dataclass(frozen=True, slots=True)
class Status:
    """Where one migration stands.

    Attributes:
        state: applied; pending; changed (the file differs from what ran); unknown (applied by a
            newer library).
        applied_at: None while pending.
    """

    version: str
    name: str
    state: State
    applied_at: datetime | None


async def status(
    db: str | None = None,
    schema: str = "public",
    *,
    migrations: Sequence[Migration] | None = None,
) -> list[Status]:
    """Return where every migration stands, oldest first.

    Raises:
        ConfigurationError: there is no direct URL.
        DatabaseUnavailableError: no connection.
    """
    async with session(db, schema) as work:
        return compare(migrations or read(), await work.history())


async def up(
    db: str | None = None,
    schema: str = "public",
    *,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """Apply what is pending, each file in one transaction, and return it.

    Args:
        db: a Postgres URL or ``embedded``; None means `DATABASE_URL`.
        schema: where the objects go; made if absent.
        migrations: by default those of this library.

    Raises:
        MigrationError: a file failed (those before it stay applied), or changed after it ran.
        ConfigurationError: there is no direct URL.
        DatabaseUnavailableError: no connection.
    """
    files = migrations or read()
    async with session(db, schema) as work, work.locked():
        history = await work.history()
        _refuse_changed(compare(files, history))
        await work.make_schema()
        done = {row.version for row in history}
        pending = [file for file in files if file.version not in done]
        for file in pending:
            await work.apply(file)
        return pending


async def down(
    db: str | None = None,
    schema: str = "public",
    *,
    to: str | None = None,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """Take migrations back, newest first, and return them. Rows of dropped tables are lost.

    Args:
        db: a Postgres URL or ``embedded``; None means `DATABASE_URL`.
        schema: where the objects are.
        to: the version to go back to, which stays; ``all`` leaves nothing; None takes back the
            newest only.
        migrations: by default those of this library.

    Raises:
        MigrationError: a rollback failed, or is not in this library.
        ConfigurationError: there is no direct URL.
        DatabaseUnavailableError: no connection.
    """
    async with session(db, schema) as work, work.locked():
        undone = chosen(migrations or read(), await work.history(), to)
        for file in undone:
            await work.undo(file)
        return undone


def compare(files: Sequence[Migration], history: Sequence[Applied]) -> list[Status]:
    """Set the files beside the history."""
    applied = {row.version: row for row in history}
    known = {file.version for file in files}
    rows = [_state(file, applied.get(file.version)) for file in files]
    rows += [
        Status(row.version, row.name, "unknown", row.applied_at)
        for row in history
        if row.version not in known
    ]
    return sorted(rows, key=lambda row: row.version)


def _state(file: Migration, row: Applied | None) -> Status:
    if row is None:
        return Status(file.version, file.name, "pending", None)
    same = row.checksum == file.checksum
    return Status(file.version, file.name, "applied" if same else "changed", row.applied_at)


def chosen(
    files: Sequence[Migration], history: Sequence[Applied], to: str | None
) -> list[Migration]:
    """Return what `down` takes back, newest first.

    Raises:
        MigrationError: `to` was never applied, or a rollback is not in this library.
    """
    by_version = {file.version: file for file in files}
    versions = sorted((row.version for row in history), reverse=True)
    if to is None:
        versions = versions[:1]
    elif to != "all":
        if to not in versions:
            raise MigrationError(f"{to} is not applied: see `llm-common migrate status`")
        versions = [version for version in versions if version > to]
    missing = [version for version in versions if version not in by_version]
    if missing:
        raise MigrationError(
            f"{missing[0]} was applied by a newer llm-common: take it back with that one"
        )
    return [by_version[version] for version in versions]


def _refuse_changed(rows: Sequence[Status]) -> None:
    changed = [f"{row.version}_{row.name}.sql" for row in rows if row.state == "changed"]
    if changed:
        raise MigrationError(
            f"{changed[0]} changed after it ran: restore the file and write a new migration"
        )
