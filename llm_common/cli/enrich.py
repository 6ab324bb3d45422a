"""`llm-common enrich`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Shown

from ..cost_tracker import usd
from ..crawling.addresses import guard
from ..enrichment import (
    Column,
    Components,
    EnrichedRow,
    EnrichmentPipeline,
    EnrichmentRequest,
    Estimate,
    PipelineConfig,
    Table,
    open_table,
)
from ..enrichment.fetching import PageCrawler
from ..enrichment.models import CrawlConfig
from ..enrichment.row_files import write_rows
from ..enrichment.tables.writing import check_target
from ..errors import InvalidInputError
from ..llm_client import LLMClient
from ..providers import aclose as close_transports
from ..runs import JobProgress, digest
from ..runs.progress import looks
from ..web_search import WebSearchClient
from .common import Where, err, money, out, print_json

SHOW_S = 0.5
SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Read:
    """What is read: a file's sheet, or what a query finds; maybe only the first rows."""

    source: str
    query: str | None = None
    sheet: str | None = None
    limit: int | None = None

    def open(self) -> Table:
        """Open the table."""
        return open_table(self.source, query=self.query, sheet=self.sheet)

    def rows(self, table: Table) -> Iterator[Mapping[str, Any]]:
        """Yield its rows."""
        rows = (row for batch in table.batches() for row in batch)
        return islice(rows, self.limit) if self.limit is not None else rows

    def fingerprint(self) -> list[Any]:
        """Name the table by what it holds; a query by its words."""
        if self.query:
            return [self.query, self.limit]
        with Path(self.source).open("rb") as file:
            return [hashlib.file_digest(file, "sha256").hexdigest(), self.sheet, self.limit]


@dataclass(frozen=True, slots=True)
class Using:
    """By whose help."""

    provider: str
    model: str | None
    engines: Sequence[str]
    browser: bool
    delay_s: float
    networks: Sequence[str]


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line asked for; `settings` are of `PipelineConfig`, None where not named."""

    read: Read
    keys: str
    columns: str
    context: Sequence[str]
    out: Path | None
    evidence: str | None
    using: Using
    settings: Mapping[str, Any]
    where: Where


class Tally:
    """Counts what rows came to while they pass.

    Attributes:
        verdicts: cells by verdict.
        has_doubts: a cell waits for a person.
    """

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self.has_doubts = False

    async def of(self, rows: AsyncGenerator[EnrichedRow]) -> AsyncGenerator[EnrichedRow]:
        """Yield the rows."""
        async for row in rows:
            for cell in row.cells.values():
                self.verdicts[cell.verdict] += 1
                has_found = bool(cell.conflicts) or cell.value is not None
                self.has_doubts |= has_found and not cell.is_settled
            yield row


async def enrich(job: Job, *, estimate_only: bool, sure: bool, as_json: bool) -> None:
    """Enrich a table: say what it may cost, work on it, write it, say what came of it.

    Raises:
        InvalidInputError: the table, the columns or the options will not do.
    """
    table = await asyncio.to_thread(job.read.open)
    request, config = _request(job), _config(job)
    target = _target(job)
    async with pipeline_of(job.where, job.using) as pipeline:
        expected = await asyncio.to_thread(
            lambda: pipeline.estimate(job.read.rows(table), request, config)
        )
        if not as_json:
            _show_estimate(expected)
        if estimate_only:
            if as_json:
                print_json(_plain(expected))
            return
        _ask(job, sure=sure)
        job_id = await _submitted(pipeline, job, table, request, config)
        if not as_json:
            err.print(f"[dim]job {job_id}[/dim]")
        await _follow(pipeline, job_id, show=not as_json)
        tally = Tally()
        rows = tally.of(pipeline.rows(job_id))
        wanted = request.columns_to_enrich
        await write_rows(target, table.columns, rows, wanted, evidence=job.evidence)
        await _report(pipeline, job_id, tally, target, as_json=as_json)


def _request(job: Job) -> EnrichmentRequest:
    try:
        return EnrichmentRequest(
            keys=tuple(_names(job.keys)),
            columns_to_enrich=tuple(Column.parse(one) for one in _names(job.columns)),
            search_context=dict(_pair(one) for one in job.context),
        )
    except ValidationError as error:
        raise InvalidInputError(_first(error)) from error


def _config(job: Job) -> PipelineConfig:
    given: dict[str, Any] = {name: v for name, v in job.settings.items() if v is not None}
    for name, option in (("budget_usd", "--budget"), ("row_budget_usd", "--row-budget")):
        if name in given:
            given[name] = usd(given[name], option)
    crawl = CrawlConfig(javascript_enabled=job.using.browser)
    try:
        return PipelineConfig(model=job.using.model, crawl_config=crawl, **given)
    except ValidationError as error:
        raise InvalidInputError(_first(error)) from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")


def _names(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInputError(f"--context {text!r}: write name=value")
    return name.strip(), value.strip()


def _target(job: Job) -> Path:
    stem = "query" if job.read.query else Path(job.read.source).stem
    target = job.out or Path(f"{stem}.enriched.csv")
    check_target(target, job.evidence)
    return target


@asynccontextmanager
async def pipeline_of(where: Where, using: Using) -> AsyncGenerator[EnrichmentPipeline]:
    """Connect everything that an enrichment needs."""
    costs = await where.tracker()
    search = WebSearchClient(engine=list(using.engines), cost_tracker=costs)
    crawler = PageCrawler(guard=guard(using.networks), per_host_delay_s=using.delay_s)
    pipeline = EnrichmentPipeline(
        LLMClient(using.provider, cost_tracker=costs),
        search,
        costs,
        components=Components(crawler=crawler),
    )
    try:
        yield pipeline
    finally:
        await pipeline.aclose()
        await crawler.aclose()
        await search.aclose()
        await costs.aclose()
        await close_transports()


def _ask(job: Job, *, sure: bool) -> None:
    """Without a budget, a person has to say that it may cost what it costs."""
    if job.settings.get("budget_usd") is not None or sure:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError("this costs money: pass --budget USD, or --yes to go without one")
    err.print("There is no --budget. Go on? \\[y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise InvalidInputError("nothing was done")


async def _submitted(
    pipeline: EnrichmentPipeline,
    job: Job,
    table: Table,
    request: EnrichmentRequest,
    config: PipelineConfig,
) -> str:
    """Store the job, or find the one that the same command made; what failed is tried again."""
    same = [job.where.project, await asyncio.to_thread(job.read.fingerprint), request, config]
    job_id = digest(["enrich", *same])[:16]
    await pipeline.submit(job.read.rows(table), request, config, job_id=job_id)
    far = await pipeline.progress(job_id)
    if far.status in {"paused", "cancelled"}:
        await pipeline.resume(job_id)
    elif far.counts.get("failed"):
        await pipeline.retry(job_id)
    return job_id


async def _follow(pipeline: EnrichmentPipeline, job_id: str, *, show: bool) -> None:
    """Work on the job, and show how far it is."""
    showing = asyncio.create_task(_show(pipeline, job_id)) if show else None
    try:
        await pipeline.run(job_id)
    finally:
        if showing is not None:
            showing.cancel()
            # That nothing could be shown is no reason to stop what is paid for.
            await asyncio.gather(showing, return_exceptions=True)


async def _show(pipeline: EnrichmentPipeline, job_id: str) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as shown:
        task = shown.add_task("enriching", total=None)
        async for far in looks(lambda: pipeline.progress(job_id), SHOW_S):
            shown.update(task, total=far.total, completed=far.done, description=_line(far))


def _line(far: JobProgress) -> str:
    eta = "" if far.eta_s is None else f", {far.eta_s:.0f} s left"
    return f"{far.percent:g} %, {far.rate:.1f} rows/s{eta}, {money(far.cost_usd)}"


def _show_estimate(expected: Estimate) -> None:
    out.print(
        f"{expected.rows} rows, {expected.searches} searches in the first round: likely up to "
        f"{money(expected.likely_usd)}, at most {money(expected.most_usd)}"
    )
    for number, problem in expected.skipped[:SHOWN_PROBLEMS]:
        out.print(f"[yellow]row {number} is skipped: {problem}[/yellow]")
    if (more := len(expected.skipped) - SHOWN_PROBLEMS) > 0:
        out.print(f"[yellow]and {more} more[/yellow]")


def _plain(expected: Estimate) -> dict[str, Any]:
    return {
        "rows": expected.rows,
        "skipped": [{"row": number, "problem": problem} for number, problem in expected.skipped],
        "queries": list(expected.queries),
        "searches": expected.searches,
        "likely_usd": expected.likely_usd,
        "most_usd": expected.most_usd,
    }


async def _report(
    pipeline: EnrichmentPipeline,
    job_id: str,
    tally: Tally,
    target: Path,
    *,
    as_json: bool,
) -> None:
    far = await pipeline.progress(job_id)
    if as_json:
        print_json(
            {
                "job_id": job_id,
                "status": far.status,
                "rows": far.counts,
                "outcomes": far.outcomes,
                "cells": tally.verdicts,
                "cost_usd": far.cost_usd,
                "unpriced": far.unpriced,
                "out": str(target),
            }
        )
        return
    shown = Shown(title=f"Job {job_id}: {far.status}", title_justify="left")
    for column in ("cells", "number"):
        shown.add_column(column)
    for verdict, number in tally.verdicts.most_common():
        shown.add_row(verdict, str(number))
    out.print(shown)
    for outcome, number in far.outcomes.items():
        if outcome != "done":
            out.print(f"[yellow]{number} rows: {outcome}[/yellow]")
    out.print(f"{money(far.cost_usd)} for {far.total} rows, written to {target}")
    if tally.has_doubts:
        out.print(f"[dim]Cells in doubt wait for you: llm-common review list --job {job_id}[/dim]")
