"""`llm-common jobs`."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..database import Database
from ..errors import ConfigurationError
from ..runs import (
    JobProgress,
    JobRecord,
    control,
    find_job,
    find_jobs,
    progress,
    rerun,
    retry,
    units_of,
)
from ..runs.jobs import Action
from ..runs.progress import looks
from ..runs.workers import enqueue
from .common import Where, err, money, out, print_json

WATCH_S = 1.0
MOST_DEAD = 20
"""Of the units that failed, so many are listed; `--json` has all."""

Command = Callable[[Database], Awaitable[object]]


@asynccontextmanager
async def _database(where: Where) -> AsyncGenerator[Database]:
    tracker = await where.tracker()
    await tracker.flush()
    try:
        yield tracker.db
    finally:
        await tracker.aclose()


async def jobs(where: Where, status: str | None, limit: int, *, as_json: bool) -> None:
    """Print the jobs of the project and how far each is."""
    async with _database(where) as db:
        found = await find_jobs(db, where.project, status=status, limit=limit)
        far = [await progress(db, where.project, job.job_id) for job in found]
    if as_json:
        print_json([plain(job, one) for job, one in zip(found, far, strict=True)])
    else:
        out.print(_table(found, far))


async def show(where: Where, job_id: str, *, as_json: bool) -> None:
    """Print a job: counts, outcomes, cost, and the units that failed with their reasons."""
    async with _database(where) as db:
        job = await find_job(db, where.project, job_id)
        far = await progress(db, where.project, job_id)
        failed = [
            {name: unit[name] for name in DEAD_FIELDS}
            async for unit in units_of(
                db, where.project, job_id, statuses=["failed"], limit=None if as_json else MOST_DEAD
            )
        ]
    if as_json:
        print_json({**plain(job, far), "failed": failed})
        return
    out.print(f"[bold]{job.job_id}[/bold]  {job.pipeline} v{job.version}  {far.status}")
    out.print(_line(far))
    out.print(_counts(far))
    if failed:
        out.print(_dead(failed, far.counts["failed"]))


DEAD_FIELDS = ("unit_key", "outcome", "fault", "error_class", "error_message", "tries", "run_id")


async def tell(where: Where, job_id: str, action: Action, *, as_json: bool) -> None:
    """Pause, resume or cancel a job."""
    async with _database(where) as db:
        status = await control(db, where.project, job_id, action)
        if status == "running":
            await _let_workers_know(where, job_id)
    _report({"job_id": job_id, "status": status}, f"job {job_id} is {status}", as_json=as_json)


async def again(
    where: Where,
    job_id: str,
    *,
    outcomes: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    steps: Sequence[str] | None = None,
    as_json: bool,
) -> None:
    """Queue units again: those that failed, or with `steps` all that are over."""
    async with _database(where) as db:
        if steps is None:
            count = await retry(db, where.project, job_id, outcomes)
        else:
            count = await rerun(db, where.project, job_id, units=units, steps=steps)
        if count:
            await _let_workers_know(where, job_id)
    told = f"{count} unit{'' if count == 1 else 's'} of job {job_id} queued again"
    _report({"job_id": job_id, "requeued": count}, told, as_json=as_json)


async def _let_workers_know(where: Where, job_id: str) -> None:
    """Leave a ticket where tickets can be left; without it, workers find the job by themselves."""
    try:
        await enqueue(where.database, where.project, job_id)
    except ConfigurationError as error:
        err.print(f"[dim]no ticket was left ({error}); a worker finds the job all the same[/dim]")


def _report(told: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        out.print(text)


async def watch(where: Where, job_id: str, *, as_json: bool) -> None:
    """Show how far a job is until it is over: live on a terminal, else a line for every second."""
    async with _database(where) as db:
        seen = looks(lambda: progress(db, where.project, job_id), WATCH_S)
        if as_json or not out.is_terminal:
            async for far in seen:
                if as_json:
                    print_json(_numbers(far), indent=None)
                else:
                    out.print(_line(far), soft_wrap=True)
            return
        with Live(console=out, auto_refresh=False) as live:
            async for far in seen:
                bar = ProgressBar(total=max(far.total, 1), completed=far.done, width=60)
                live.update(Group(bar, _line(far), _counts(far)), refresh=True)


def _line(far: JobProgress) -> str:
    left = "" if far.eta_s is None else f", about {timedelta(seconds=round(far.eta_s))} left"
    unpriced = f", {far.unpriced} without a price" if far.unpriced else ""
    return (
        f"{far.status}: {far.done:,} of {far.total:,} units ({far.percent:g} %), "
        f"{far.rate:.1f} per second{left}; {money(far.cost_usd)}{unpriced}, {far.tokens:,} tokens"
    )


def _counts(far: JobProgress) -> Table:
    table = Table(title_justify="left")
    for column in ("status", "units", "outcome", "units"):
        table.add_column(column, justify="right" if column == "units" else "left")
    statuses, outcomes = (
        sorted((k, v) for k, v in c.items() if v) for c in (far.counts, far.outcomes)
    )
    for number in range(max(len(statuses), len(outcomes))):
        cells = [c[number] if number < len(c) else ("", "") for c in (statuses, outcomes)]
        table.add_row(*(f"{v:,}" if isinstance(v, int) else v for cell in cells for v in cell))
    if far.retries or far.interruptions:
        table.caption = f"{far.retries} retries, {far.interruptions} interruptions"
    return table


def _dead(failed: Sequence[dict[str, Any]], count: int) -> Table:
    table = Table(title=f"{count:,} failed", title_justify="left")
    for column in ("unit", "outcome", "fault", "error", "tries"):
        table.add_column(column)
    for unit in failed:
        error = unit["error_message"] or unit["error_class"] or ""
        cells = (unit["unit_key"], unit["outcome"], unit["fault"], error, str(unit["tries"]))
        # Keys and messages are a host's: brackets in them are no markup.
        table.add_row(*(Text(cell) for cell in cells))
    if count > len(failed):
        table.caption = f"and {count - len(failed):,} more: --json has them all"
    return table


def _table(found: Sequence[JobRecord], far: Sequence[JobProgress]) -> Table:
    table = Table(title="Jobs, newest first", title_justify="left")
    for column in ("job", "pipeline", "status"):
        table.add_column(column, overflow="fold")
    for column in ("done", "units", "%", "failed", "cost"):
        table.add_column(column, justify="right")
    for job, one in zip(found, far, strict=True):
        table.add_row(
            Text(job.job_id),
            Text(f"{job.pipeline} v{job.version}"),
            one.status,
            f"{one.done:,}",
            f"{one.total:,}",
            f"{one.percent:g}",
            f"{one.counts.get('failed', 0):,}",
            money(one.cost_usd),
        )
    return table


def plain(job: JobRecord, far: JobProgress) -> dict[str, Any]:
    """Return a job and how far it is as JSON can hold it."""
    known = {"pipeline": job.pipeline, "version": job.version, "created_at": job.created_at}
    more = {"options": dict(job.options), "budget_usd": job.budget_usd}
    return {**_numbers(far), **known, **more}


def _numbers(far: JobProgress) -> dict[str, Any]:
    return {**dataclasses.asdict(far), "done": far.done, "percent": far.percent}
