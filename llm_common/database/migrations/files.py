"""Migration files: which there are, and what they hold."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import MigrationError

NAME = re.compile(r"(?P<version>\d{14})_(?P<name>[a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration.

    Attributes:
        version: 14 digits, a timestamp.
        rollback: the SQL that undoes it.
        checksum: SHA-256 of `sql`, hexadecimal.
    """

    version: str
    name: str
    sql: str
    rollback: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, so that an edit after the fact is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.version}_{self.name}.sql"


def folder() -> Path:
    """Return where the migrations are: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[2]
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def read(path: Path | None = None) -> tuple[Migration, ...]:
    """Read every migration, oldest first.

    Raises:
        MigrationError: a file is misnamed, or has no rollback.
    """
    root = path or folder()
    return tuple(_read(file) for file in sorted(root.glob("*.sql")))


def _read(file: Path) -> Migration:
    match = NAME.fullmatch(file.name)
    if match is None:
        raise MigrationError(f"{file.name} is not named <14 digits>_<name>.sql")
    rollback = file.parent / "rollback" / file.name
    if not rollback.is_file():
        raise MigrationError(f"{file.name} has no rollback/{file.name}")
    return Migration(
        match["version"],
        match["name"],
        file.read_text(encoding="utf-8"),
        rollback.read_text(encoding="utf-8"),
    )
