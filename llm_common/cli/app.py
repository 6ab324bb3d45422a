"""The commands and their options."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidInputError
from . import alerts as alerting
from . import analyze as analyzing
from . import costs as costing
from . import crawl_app as crawling
from . import demo as demonstrating
from . import doctor as doctoring
from . import enrich_app as enriching
from . import jobs_app as batching
from . import migrate as migrating
from . import models as naming
from . import reconcile as reconciling
from . import rollout_app as rolling
from . import runs_app as running
from . import search as searching
from . import worker_app as working
from .common import Where
from .options import Database, Json, Project, Since, Until, Yes, run

app = typer.Typer(
    help="Language-model calls that are reserved, recorded and never paid for twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
migrate_app = typer.Typer(help="Bring the schema of the database up or down.", no_args_is_help=True)
app.add_typer(migrate_app, name="migrate")
costs_app = typer.Typer(invoke_without_command=True)
app.add_typer(costs_app, name="costs")
app.add_typer(crawling.app, name="crawl")
app.add_typer(rolling.app, name="rollout")
app.add_typer(running.app, name="runs")
app.command("enrich")(enriching.enrich)
app.add_typer(enriching.review_app, name="review")
app.add_typer(batching.app, name="jobs")
app.command()(working.worker)


@app.command()
def demo(as_json: Json = False) -> None:
    """Analyse the sample bill with the offline model: no key, no server, no Docker."""
    run(demonstrating.demo(as_json=as_json))


@app.command()
def analyze(
    files: Annotated[list[Path], typer.Argument(help="Text, Markdown, HTML, USLM XML or PDF.")],
    budget: Annotated[
        str | None, typer.Option(help="Strict limit for this job, in USD, resumed parts included.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(help="One model for all steps, or research=…,generate=…,review=…"),
    ] = None,
    provider: Annotated[str, typer.Option(help="Who serves the models.")] = "openrouter",
    engine: Annotated[str, typer.Option(help="Search engine, as of llm-common search.")] = "zai",
    jurisdiction: Annotated[str | None, typer.Option(help="Whose law it would be.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Take finished steps from earlier runs; --no-resume pays anew.")
    ] = True,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use the offline model, which needs no key.")
    ] = False,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Analyse bills: research, generate, review. Repeating the command pays for nothing twice."""
    job = analyzing.Job(
        files=files,
        budget=budget,
        models=models,
        provider="offline" if offline else provider,
        engine="offline" if offline else engine,
        jurisdiction=jurisdiction,
        resume=resume,
        where=Where.of(database, project),
    )
    done = run(analyzing.analyze(job, as_json=as_json))
    if any(one.error for one in done):
        raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8765,
    provider: Annotated[str, typer.Option(help="Who serves the model.")] = "openrouter",
    model: Annotated[
        str | None, typer.Option(help="Of jobs that name none. By default the task extract's.")
    ] = None,
    engine: enriching.Engines = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Serve enrichments over HTTP, and a page for them; prints the address that opens it."""
    from . import serve as serving

    using = serving.Using(provider, model, engine or ["zai"], False, 1.0, ())
    where, at = Where.of(database, project), serving.Address(host, port)
    run(serving.serve(where, using, at, as_json=as_json))


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    engine: Annotated[
        list[str] | None,
        typer.Option(
            help="zai (default), serper, tavily, brave, exa or searxng; repeated, the next is "
            "asked when one fails."
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Most results, 1 to 50.")] = 10,
    domain: Annotated[
        list[str] | None, typer.Option(help="Only results of this host; may be repeated.")
    ] = None,
    recency: Annotated[str | None, typer.Option(help="Not older than 1d, 1w, 1m or 1y.")] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Search the web through the cache: the same search is paid for once."""
    wanted = searching.Wanted(query, engine or ["zai"], count, domain or [], recency)
    run(searching.search(Where.of(database, project), wanted, as_json=as_json))


@costs_app.callback()
def costs(
    context: typer.Context,
    by: Annotated[
        str, typer.Option(help="model, step, project, user, task, day, run or status.")
    ] = "model",
    since: Since = None,
    until: Until = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Show what was spent, and how the budgets stand."""
    given = (by, since, until, database, project, as_json)
    if context.invoked_subcommand is None:
        days = _days(since, until)
        run(costing.costs(Where.of(database, project), by, days, as_json=as_json))
    elif given != ("model", None, None, None, None, False):
        # They would be lost: the command behind has options of its own.
        raise InvalidInputError(f"write the options after {context.invoked_subcommand}")


@costs_app.command()
def reconcile(
    since: Since = None,
    until: Until = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Ask it for its bill: openai, openrouter or anthropic. Default: those whose "
            "<NAME>_ADMIN_KEY is set."
        ),
    ] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Compare the ledger with counters, holds and bills; exit code 2 when something differs."""
    where, days = Where.of(database, project), _days(since, until)
    if not run(reconciling.reconcile(where, days, provider, as_json=as_json)):
        raise typer.Exit(2)


@costs_app.command()
def alerts(
    deliver: Annotated[
        bool, typer.Option("--deliver", help="Send what is pending to the webhook first.")
    ] = False,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List the alerts of the project's budgets, and how far they got."""
    run(alerting.alerts(Where.of(database, project), deliver=deliver, as_json=as_json))


@costs_app.command()
def prompts(
    prompt_id: Annotated[
        str | None, typer.Option("--id", help="Compare the versions of this prompt alone.")
    ] = None,
    since: Since = None,
    until: Until = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Compare the versions of prompts: answers, reasks, cost, tokens and latency per call."""
    where, days = Where.of(database, project), _days(since, until)
    run(costing.prompts(where, prompt_id, days, as_json=as_json))


def _days(since: datetime | None, until: datetime | None) -> costing.Days:
    return since and since.date(), until and until.date()


@app.command()
def models(
    provider: Annotated[str | None, typer.Option(help="Only this provider's models.")] = None,
    as_json: Json = False,
) -> None:
    """List the models of the registry: provider, price, context, and which keys are set."""
    naming.models(provider, as_json=as_json)


@app.command()
def doctor(database: Database = None, project: Project = None, as_json: Json = False) -> None:
    """Check keys, database, schema, prices and packages; name each setting's source."""
    run(doctoring.doctor(Where.of(database, project), as_json=as_json))


@migrate_app.command()
def up(database: Database = None) -> None:
    """Apply the migrations that are pending."""
    run(migrating.up(Where.of(database, None)))


@migrate_app.command()
def down(
    to: Annotated[str | None, typer.Option(help="Keep this version and those before it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Take every migration back.")] = False,
    yes: Yes = False,
    database: Database = None,
) -> None:
    """Take migrations back; tables that the host had before stay."""
    run(migrating.down(Where.of(database, None), to, everything=everything, yes=yes))


@migrate_app.command()
def status(database: Database = None, as_json: Json = False) -> None:
    """Show which migrations are applied."""
    run(migrating.status(Where.of(database, None), as_json=as_json))


@migrate_app.command()
def verify(database: Database = None, as_json: Json = False) -> None:
    """Compare the database with the migrations; exit code 2 when something differs."""
    run(migrating.verify(Where.of(database, None), as_json=as_json))


@migrate_app.command()
def emit(
    tool: Annotated[
        str,
        typer.Option(
            "--for", help="supabase: files for `supabase db push`; psql: `rollback/` as well."
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--to", help="Default: supabase/migrations, and migrations for psql."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the migrations as files for another tool."""
    migrating.emit(tool, folder, as_json=as_json)
