"""The options of `llm-common enrich` and `llm-common review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Where
from .options import Database, Json, Project, Yes, run

review_app = typer.Typer(help="Decide about values that no evidence settles.", no_args_is_help=True)

By = Annotated[str | None, typer.Option(help="Who decides, for the record.")]
Note = Annotated[str | None, typer.Option(help="Why, for the record.")]
ReviewId = Annotated[str, typer.Argument(help="Its id, as `review list` shows it.")]


def enrich(
    source: Annotated[str, typer.Argument(help="CSV, Excel, Parquet, or a Postgres URL.")],
    keys: Annotated[str, typer.Option(help="Columns that name a row, as name,state.")],
    columns: Annotated[str, typer.Option(help="Columns wanted, as party,phone:phone.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=".csv, .xlsx, .parquet, .json or .jsonl."),
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Strict limit of the job, in USD.")] = None,
    row_budget: Annotated[str | None, typer.Option(help="Strict limit of a row, in USD.")] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", "--dry-run", help="Say what it could cost, and stop.")
    ] = False,
    pilot: Annotated[
        int | None, typer.Option(help="Only the first so many rows; the whole finds them done.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="A SELECT, for a Postgres URL.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of a workbook; its first by default.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(help="Words for the queries, as topic=legislators; may be repeated."),
    ] = None,
    evidence: Annotated[
        str | None, typer.Option(help="columns, sheet, json or none; by the kind of file.")
    ] = None,
    provider: Annotated[str, typer.Option(help="Who serves the model.")] = "openrouter",
    model: Annotated[str | None, typer.Option(help="By default the task extract's.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="Search engine, as of llm-common search.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="How often weak cells are tried again (2).")
    ] = None,
    parallel: Annotated[int | None, typer.Option(help="Batches at a time (5).")] = None,
    browser: Annotated[
        bool, typer.Option("--browser", help="Use a browser for pages that need one.")
    ] = False,
    delay: Annotated[float, typer.Option(help="Seconds between two requests to a host.")] = 1.0,
    networks: Annotated[
        list[str] | None,
        typer.Option("--allow-network", help="A private network that may be asked."),
    ] = None,
    database: Database = None,
    project: Project = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Find values for the columns of a table, each with a quote and its source."""
    from . import enrich as enriching

    job = enriching.Job(
        source=source,
        keys=keys,
        columns=columns,
        where=Where.of(database, project),
        out=out,
        query=query,
        sheet=sheet,
        context=context or [],
        evidence=evidence,
        budget=budget,
        row_budget=row_budget,
        limit=pilot,
        provider=provider,
        model=model,
        engine=engine or ["zai"],
        browser=browser,
        delay_s=delay,
        networks=networks or [],
        estimate_only=estimate,
        settings={"refine_rounds": rounds, "max_parallel_batches": parallel},
    )
    run(enriching.enrich(job, sure=yes, as_json=as_json))


@review_app.command("list")
def list_(
    job: Annotated[str | None, typer.Option(help="Of one job.")] = None,
    state: Annotated[str, typer.Option(help="open, accepted, corrected, rejected, all.")] = "open",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List what waits for a decision, or what was decided."""
    from . import review as reviewing

    where = Where.of(database, project)
    run(reviewing.show(where, job, state, limit, as_json=as_json))


@review_app.command()
def accept(
    review: ReviewId,
    by: By = None,
    note: Note = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Take the value as it is."""
    from . import review as reviewing

    said = reviewing.Said(review, "accept", None, by, note)
    run(reviewing.say(Where.of(database, project), said, as_json=as_json))


@review_app.command()
def correct(
    review: ReviewId,
    value: Annotated[str, typer.Argument(help="The right one.")],
    by: By = None,
    note: Note = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Put another value in its place."""
    from . import review as reviewing

    said = reviewing.Said(review, "correct", value, by, note)
    run(reviewing.say(Where.of(database, project), said, as_json=as_json))


@review_app.command()
def reject(
    review: ReviewId,
    by: By = None,
    note: Note = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Leave the cell empty."""
    from . import review as reviewing

    said = reviewing.Said(review, "reject", None, by, note)
    run(reviewing.say(Where.of(database, project), said, as_json=as_json))
