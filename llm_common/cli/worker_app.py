"""The options of `llm-common worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..runs.workers import Slots
from . import worker as working
from .common import Where
from .options import Database, Project, run


def worker(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A Pipeline, a list of them, or a function that returns them.",
        ),
    ],
    processes: Annotated[int, typer.Option(min=1, max=256, help="How many work.")] = 2,
    concurrency: Annotated[
        int, typer.Option(min=1, max=10_000, help="Units under way in each process.")
    ] = 50,
    batch: Annotated[
        int | None,
        typer.Option(min=0, help="Units claimed before there is room for them. [concurrency]"),
    ] = None,
    database: Database = None,
    project: Project = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when no job is left that runs.")
    ] = False,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Work on the jobs of a pipeline; any number of machines may, at the same ones.

    Logs are JSON lines on stderr. SIGTERM and Ctrl-C let units under way end for some seconds; a
    second one ends at once, and nothing that is done is done again.
    """
    options = working.WorkerOptions(
        target, processes, Slots(concurrency, batch), once, is_child=child
    )
    code = run(working.worker(Where.of(database, project), options))
    raise typer.Exit(code)
