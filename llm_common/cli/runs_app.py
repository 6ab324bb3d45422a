"""The options of `llm-common runs`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import runs as listing
from . import runs_diff as comparing
from .common import Where
from .crawl_app import SiteGroup
from .options import Database, Json, Project, run


class RunsGroup(SiteGroup):
    """`llm-common runs` and `llm-common runs ID` are `llm-common runs show [ID]`."""

    default = "show"
    takes_none = True


app = typer.Typer(
    cls=RunsGroup,
    help="List stored runs, or show one: `llm-common runs [ID]` is `llm-common runs show [ID]`.",
)


@app.command()
def show(
    run_id: Annotated[
        str | None, typer.Argument(help="A run, or the first characters of its id.")
    ] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List stored runs, or show one with its analysis, steps and cost."""
    run(listing.runs(Where.of(database, project), run_id, as_json=as_json))


@app.command()
def diff(
    left: Annotated[str, typer.Argument(help="A run or a job, or the beginning of its id.")],
    right: Annotated[str, typer.Argument(help="Another one of the same kind.")],
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Compare two runs, or two jobs unit by unit: outputs, tokens and cost."""
    run(comparing.show_diff(Where.of(database, project), left, right, as_json=as_json))
