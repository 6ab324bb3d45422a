"""Options that several commands share, and how a command runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Database = Annotated[
    str | None,
    typer.Option(
        help="Postgres URL, or 'embedded'. Default: DATABASE_URL, SUPABASE_URL, else embedded."
    ),
]
Project = Annotated[
    str | None, typer.Option(help="Label of the rows. Default: LLM_COMMON_PROJECT, else 'local'.")
]
Since = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (this month's).")
]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (today).")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


T = TypeVar("T")


def run(command: Coroutine[Any, Any, T], onward: str = "the same command goes on") -> T:
    """Run a command; Ctrl-C leaves every finished step stored, and `onward` says how to go on."""
    try:
        return asyncio.run(command)
    except KeyboardInterrupt:
        sys.stderr.write(f"llm-common: interrupted; {onward} from here\n")
        raise typer.Exit(130) from None
