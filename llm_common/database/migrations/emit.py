"""Migrations as files of the host's own, for its own tool to apply."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import MigrationError
from .files import Migration, read
from .session import LOCK_TIMEOUT

HEAD = """\
-- Written by llm-common; `llm-common migrate status` knows it once it has run.
BEGIN;
SET LOCAL search_path = {schema}, pg_temp;
SET LOCAL lock_timeout = '{timeout}';

"""


def emit(
    target: Path,
    schema: str = "public",
    *,
    rollbacks: bool = False,
    migrations: Sequence[Migration] | None = None,
) -> list[Path]:
    """Write the migrations into a folder and return the new files, oldest first.

    Each is one transaction, names its schema and records itself in the history, so that it can be
    applied by psql or put into `supabase/migrations`. A file that is there already is left alone.

    Args:
        target: the folder; made if absent.
        schema: where the objects go; it must be there when the files run.
        rollbacks: write `rollback/` as well. Supabase's tool has no use for it.
        migrations: by default those of this library.

    Raises:
        MigrationError: a file of that name holds something else, and nothing was written; or the
            folder is none, or can't be written.
    """
    files: dict[Path, str] = {}
    for migration in migrations or read():
        files[target / migration.file] = _forward(migration, schema)
        if rollbacks:
            files[target / "rollback" / migration.file] = _back(migration, schema)
    try:
        return _written(files)
    except OSError as error:
        raise MigrationError(
            f"{error.filename} is no folder to write to ({error.strerror}): name another"
        ) from error


def _written(files: dict[Path, str]) -> list[Path]:
    """Write what is not there, once it is certain that every file can be."""
    new = {path: text for path, text in files.items() if not _is_there(path, text)}
    for folder in {path.parent: None for path in new}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")
    return list(new)


def _is_there(path: Path, text: str) -> bool:
    if not path.exists():
        return False
    if path.read_text(encoding="utf-8") != text:
        raise MigrationError(f"{path.name} is there and differs: move it away, then emit again")
    return True


def _forward(migration: Migration, schema: str) -> str:
    record = (
        "INSERT INTO llm_migrations (version, name, checksum) VALUES\n"
        f"    ('{migration.version}', '{migration.name}', '{migration.checksum}')\n"
        "ON CONFLICT (version) DO NOTHING;"
    )
    return f"{_head(schema)}{migration.sql}\n{record}\nCOMMIT;\n"


def _back(migration: Migration, schema: str) -> str:
    forget = f"DELETE FROM llm_migrations WHERE version = '{migration.version}';"  # noqa: S608 - digits
    return f"{_head(schema)}{forget}\n\n{migration.rollback}\nCOMMIT;\n"


def _head(schema: str) -> str:
    quoted = '"' + schema.replace('"', '""') + '"'
    return HEAD.format(schema=quoted, timeout=LOCK_TIMEOUT)
