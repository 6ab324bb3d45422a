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


Source = Annotated[str, typer.Argument(help="CSV, Excel, Parquet, or a Postgres URL.")]
Keys = Annotated[str, typer.Option(help="Columns that name a row, as name,state.")]
Columns = Annotated[str, typer.Option(help="Columns wanted, as party,phone:phone.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help=".csv, .xlsx, .parquet, .json or .jsonl."),
]
Budget = Annotated[str | None, typer.Option(help="Strict limit of the job, in USD.")]
RowBudget = Annotated[str | None, typer.Option(help="Strict limit of a row, in USD.")]
EstimateOnly = Annotated[
    bool, typer.Option("--estimate", "--dry-run", help="Say what it could cost, and stop.")
]
Pilot = Annotated[
    int | None, typer.Option(help="Only the first so many rows; the whole finds them done.")
]
Query = Annotated[str | None, typer.Option(help="A SELECT, for a Postgres URL.")]
Sheet = Annotated[str | None, typer.Option(help="Of a workbook; its first by default.")]
Context = Annotated[
    list[str] | None,
    typer.Option(help="Words for the queries, as topic=legislators; may be repeated."),
]
Evidence = Annotated[
    str | None, typer.Option(help="columns, sheet, json or none; by the kind of file.")
]
Provider = Annotated[str, typer.Option(help="Who serves the model.")]
Model = Annotated[str | None, typer.Option(help="By default the task extract's.")]
Engines = Annotated[list[str] | None, typer.Option(help="Search engine, as of llm-common search.")]
Rounds = Annotated[int | None, typer.Option(help="How often weak cells are tried again (2).")]
Parallel = Annotated[int | None, typer.Option(help="Batches at a time (5).")]
Browser = Annotated[bool, typer.Option("--browser", help="Use a browser for pages that need one.")]
Delay = Annotated[float, typer.Option(help="Seconds between two requests to a host.")]
Networks = Annotated[
    list[str] | None,
    typer.Option("--allow-network", help="A private network that may be asked."),
]


def enrich(
    source: Source,
    keys: Keys,
    columns: Columns,
    out: Out = None,
    budget: Budget = None,
    row_budget: RowBudget = None,
    estimate: EstimateOnly = False,
    pilot: Pilot = None,
    query: Query = None,
    sheet: Sheet = None,
    context: Context = None,
    evidence: Evidence = None,
    provider: Provider = "openrouter",
    model: Model = None,
    engine: Engines = None,
    rounds: Rounds = None,
    parallel: Parallel = None,
    browser: Browser = False,
    delay: Delay = 1.0,
    networks: Networks = None,
    database: Database = None,
    project: Project = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Find values for the columns of a table, each with a quote and its source."""
    from . import enrich as enriching

    settings = {
        "budget_usd": budget,
        "row_budget_usd": row_budget,
        "refine_rounds": rounds,
        "max_parallel_batches": parallel,
    }
    read = enriching.Read(source, query, sheet, pilot)
    using = enriching.Using(provider, model, engine or ["zai"], browser, delay, networks or [])
    where = Where.of(database, project)
    job = enriching.Job(read, keys, columns, context or [], out, evidence, using, settings, where)
    run(enriching.enrich(job, estimate_only=estimate, sure=yes, as_json=as_json))


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
