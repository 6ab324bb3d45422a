"""The options of `llm-common rollout`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer

from ..cost_tracker import usd
from ..rollout.buckets import share_of
from ..rollout.models import Shadowing
from . import rollout as rolling
from .common import Where
from .options import Database, Json, Project, run

app = typer.Typer(
    help="Move units from an old implementation to a new one, measured, and back.",
    no_args_is_help=True,
)

Flag = Annotated[str | None, typer.Option(help="Which rollout; needless where there is one.")]
Reason = Annotated[str, typer.Option(help="Why: it stays in the log.")]
GIVEN_NONE = "no reason given"


@app.command()
def status(
    flag: Flag = None, database: Database = None, project: Project = None, as_json: Json = False
) -> None:
    """Show the rollouts of the project, and what their arms did in this stage."""
    run(rolling.status(Where.of(database, project), flag, as_json=as_json))


@app.command("set")
def set_(
    value: Annotated[str, typer.Argument(help="off, shadow, on, or a percentage.")],
    flag: Flag = None,
    reason: Reason = GIVEN_NONE,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A unit that always is shown the new arm; replaces the list."),
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(help="A unit that never is; replaces the list.")
    ] = None,
    segment: Annotated[
        list[str] | None,
        typer.Option(help="jurisdiction=California|Nevada:25, a share of its own; replaces them."),
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Percentage of the units that the shadow executes.")
    ] = None,
    daily_usd: Annotated[
        str | None, typer.Option(help="What the shadow may cost in a day, in USD.")
    ] = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Set a rollout; `set off` without a flag stops all of the project, within one poll."""
    more: dict[str, Any] = {}
    for name, units in (("allow", allow), ("deny", deny)):
        if units is not None:
            more[name] = sorted({unit for unit in units if unit})
    if segment is not None:
        more["segments"] = rolling.segments([text for text in segment if text])
    if sample is not None or daily_usd is not None:
        share = share_of(sample if sample is not None else 100)
        daily = usd(daily_usd, "--daily-usd") if daily_usd is not None else Decimal(1)
        more["shadow"] = Shadowing(share=share, daily_usd=daily).model_dump(mode="json")
    where = Where.of(database, project)
    run(rolling.set_(where, value, flag, reason, more, as_json=as_json))


@app.command()
def ramp(
    steps: Annotated[str, typer.Argument(help="Percentages that rise.")] = "10,50,100",
    flag: Flag = None,
    reason: Reason = GIVEN_NONE,
    min_exposures: Annotated[
        int, typer.Option(help="Outcomes of the new arm before the next step.")
    ] = 100,
    min_minutes: Annotated[float, typer.Option(help="That a step lasts at least.")] = 60.0,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Advance step by step as long as every guardrail is well; roll back when one trips."""
    plan = (steps, min_exposures, min_minutes)
    run(rolling.ramp(Where.of(database, project), flag, reason, plan, as_json=as_json))


@app.command()
def reset(
    reason: Annotated[str, typer.Option(help="Why it may be tried again: it stays in the log.")],
    flag: Flag = None,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Allow a rollout again that was rolled back; it stays off until it is set."""
    run(rolling.reset(Where.of(database, project), flag, reason, as_json=as_json))


@app.command()
def log(
    flag: Flag = None,
    mismatches: Annotated[
        bool, typer.Option("--mismatches", help="What shadow executions differed in.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 50,
    database: Database = None,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List what was decided, by whom, why, and on what evidence."""
    where = Where.of(database, project)
    run(rolling.show_log(where, flag, limit, mismatches=mismatches, as_json=as_json))
