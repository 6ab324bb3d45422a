"""What the commands share: where rows go, and how things are printed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from .. import settings
from ..cost_tracker import CostTracker
from ..database import migrations

EMBEDDED = "embedded"
LOCAL_PROJECT = "local"

out = Console()
err = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Where:
    """The database and the project of a command."""

    database: str | None
    project: str

    @classmethod
    def of(cls, database: str | None, project: str | None) -> Where:
        """Resolve both; the command line, unlike a host, falls back to the embedded Postgres."""
        named = database or settings.setting("database_url").value
        if named is None and not settings.setting("supabase_url").value:
            named = EMBEDDED
        return cls(
            named, settings.setting("project", project, LOCAL_PROJECT).value or LOCAL_PROJECT
        )

    async def tracker(self) -> CostTracker:
        """Return a tracker; the embedded database is ours, so it is migrated by itself."""
        if self.database == EMBEDDED:
            await migrations.up(EMBEDDED)
        return CostTracker(self.database, project=self.project)


def print_json(value: Any, *, indent: int | None = 1) -> None:
    """Print one JSON value on stdout; without an indent it is one line, and seen at once."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def money(amount: Any) -> str:
    """Write an amount of USD so that small sums keep their digits."""
    if amount is None:
        return "unknown"
    text = f"{amount:.12f}".rstrip("0")
    whole, _, digits = text.partition(".")
    return f"${whole}.{digits.ljust(2, '0')}"
