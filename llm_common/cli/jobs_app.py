"""The options of `llm-common jobs`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..runs.jobs import Action
from . import jobs as working
from .common import Where
from .crawl_app import SiteGroup
from .options import Database, Json, Project, run

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The id of the job.")]


class JobsGroup(SiteGroup):
    """`llm-common jobs` is `llm-common jobs list`."""

    default = "list"
    takes_none = True


app = typer.Typer(
    cls=JobsGroup, help="List jobs; show, pause, resume, cancel, repeat or watch one."
)


@app.command("list")
def list_(
    status: Annotated[
        str | None,
        typer.Option(help="pending, running, paused, cancelled, completed or failed."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List the jobs of the project and how far each is; `jobs` alone does the same."""
    run(working.jobs(Where.of(database, project), status, limit, as_json=as_json))


@app.command()
def show(
    job: JobId, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """Show a job: counts, outcomes, cost, and the units that failed with their reasons."""
    run(working.show(Where.of(database, project), job, as_json=as_json))


@app.command()
def watch(
    job: JobId, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """Show how far a job is until it is over; a line every second where there is no terminal."""
    run(working.watch(Where.of(database, project), job, as_json=as_json))


def _tell(
    action: Action, database: str | None, project: str | None, job: str, *, as_json: bool
) -> None:
    run(working.tell(Where.of(database, project), job, action, as_json=as_json))


@app.command()
def pause(
    job: JobId, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """Begin nothing more of a job; what is under way is finished."""
    _tell("pause", database, project, job, as_json=as_json)


@app.command()
def resume(
    job: JobId, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """Go on with a job that was paused or cancelled."""
    _tell("resume", database, project, job, as_json=as_json)


@app.command()
def cancel(
    job: JobId, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """End a job, what is under way as well; what is done stays."""
    _tell("cancel", database, project, job, as_json=as_json)


@app.command("retry")
def retry_(
    job: JobId,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="Only units that ended so, such as rate_limited; may be repeated."),
    ] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Queue the units that failed again; what they have paid for is looked up."""
    where = Where.of(database, project)
    run(working.again(where, job, outcomes=outcome or None, as_json=as_json))


@app.command("rerun")
def rerun_(
    job: JobId,
    unit: Annotated[
        list[str] | None, typer.Option(help="Only this unit, by its key; may be repeated.")
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(help="Executed anew whatever is stored, and paid for; may be repeated."),
    ] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Queue units that are over again, with some of their steps executed anew."""
    where = Where.of(database, project)
    run(working.again(where, job, units=unit or None, steps=step or [], as_json=as_json))
