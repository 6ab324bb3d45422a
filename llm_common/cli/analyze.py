"""`llm-common analyze`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..analysis import AnalysisPipeline, BillAnalysis, Subject
from ..cost_tracker import CostTracker, usd
from ..documents import Document, load_document
from ..errors import (
    BudgetExceededError,
    CallError,
    InvalidInputError,
    LLMCommonError,
    ResponseValidationError,
    RunError,
)
from ..llm_client import LLMClient
from ..providers import aclose as close_transports
from ..runs import digest
from ..testing import CorpusDocument, ProviderServer
from ..web_search import WebSearchClient
from .common import Where, err, money, out, print_json
from .costs import cost_table, job_costs
from .report import show_analysis

AT_ONCE = 4
"""Bills analysed at the same time."""
BYTES_PER_TOKEN = 4
"""About what English text has; an upper bound counts every byte as a token."""
OFFLINE_MODEL = "extractive"
STEPS = ("research", "generate", "review")

UNIT_ERRORS = (CallError, ResponseValidationError, RunError)
"""What ends one bill; everything else ends the job."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line asked for."""

    files: Sequence[Path]
    budget: str | None
    models: str | None
    provider: str
    engine: str
    jurisdiction: str | None
    resume: bool
    where: Where

    @property
    def is_offline(self) -> bool:
        """Whether the offline model was asked for by name."""
        return self.provider == "offline"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one file."""

    file: str
    bill_id: str
    analysis: BillAnalysis | None = None
    error: LLMCommonError | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a job works with."""

    costs: CostTracker
    pipeline: AnalysisPipeline[Any, BillAnalysis]
    job_id: str
    server: ProviderServer | None


async def analyze(
    job: Job, *, corpus: Sequence[CorpusDocument] | None = None, as_json: bool
) -> list[Done]:
    """Analyse every file; a bad file, budget or model is refused before anything is sent.

    Raises:
        LLMCommonError: nothing could be analysed, or the job can't go on.
    """
    documents = [load_document(path) for path in job.files]
    _refuse_twins(documents)
    budget = None if job.budget is None else usd(job.budget, "--budget")
    subjects = [_subject(job, document) for document in documents]
    async with _tools(job, subjects, corpus or _corpus(documents), budget) as tools:
        unfinished = [s for s in subjects if not job.resume or not await tools.pipeline.stored(**s)]
        await _refuse_what_can_not_fit(tools, unfinished, budget)
        done = await _analyze_all(tools, job, subjects, show=not as_json)
        await _report(tools, job, done, as_json=as_json)
    errors = [d.error for d in done if d.error]
    if errors and len(errors) == len(done):
        raise errors[0]
    return done


def _refuse_twins(documents: Sequence[Document]) -> None:
    """Refuse two files that are the same unit: they would be one run at work twice."""
    seen: dict[tuple[str, str], str] = {}
    for document in documents:
        key = (document.id, document.text)
        if key in seen:
            raise InvalidInputError(f"{document.source} is the same document as {seen[key]}")
        seen[key] = document.source


def _subject(job: Job, document: Document) -> Subject:
    return Subject(
        bill_id=document.id,
        bill_text=document.text,
        title=document.title,
        jurisdiction=job.jurisdiction,
        models=_models(job),
    )


def _models(job: Job) -> Mapping[str, str]:
    """Read ``--models``: one name for all steps, or step=name pairs."""
    text = job.models or (OFFLINE_MODEL if job.is_offline else "")
    if not text:
        return {}
    if "=" not in text:
        return dict.fromkeys(STEPS, text)
    pairs = [part.partition("=") for part in text.split(",")]
    models = {step.strip(): name.strip() for step, _, name in pairs}
    if not all(models.values()) or models.keys() - set(STEPS):
        raise InvalidInputError(
            f"--models {text!r}: write one model, or research=…,generate=…,review=…"
        )
    return models


def _corpus(documents: Sequence[Document]) -> list[CorpusDocument]:
    """What the offline search can find: the bills themselves, under addresses that lead nowhere."""
    return [
        CorpusDocument(title=d.title, url=f"https://offline.invalid/{d.sha256[:12]}", text=d.text)
        for d in documents
    ]


@asynccontextmanager
async def _tools(
    job: Job, subjects: Sequence[Subject], corpus: Sequence[CorpusDocument], budget: Decimal | None
) -> AsyncGenerator[Tools]:
    """Connect everything for a job; the same files and models are the same job."""
    costs = await job.where.tracker()
    job_id = digest(["analyze", job.where.project, subjects])[:16]
    if budget is not None:
        costs.limit("job", job_id, "total", budget)
    server: ProviderServer | None = None
    # A server that is already running is used: its invoice outlives this process.
    if job.is_offline and not os.environ.get("OFFLINE_BASE_URL"):
        server = await ProviderServer(corpus).start()
    base_url = server.base_url("offline") if server else None
    llm = LLMClient(job.provider, base_url=base_url, cost_tracker=costs)
    search = WebSearchClient(
        "offline" if job.is_offline else None,
        engine=job.engine,
        base_url=base_url,
        cost_tracker=costs,
    )
    try:
        yield Tools(costs, AnalysisPipeline(llm, search, costs), job_id, server)
    finally:
        # A refresh of the search cache may still run, and its cost goes through the tracker.
        await search.aclose()
        await costs.aclose()
        await close_transports()
        if server:
            await server.aclose()


async def _refuse_what_can_not_fit(
    tools: Tools, unfinished: Sequence[Subject], budget: Decimal | None
) -> None:
    """Refuse a job whose likely cost exceeds its budget, before the first request.

    Raises:
        BudgetExceededError: naming what it would have cost.
    """
    bounds = [tools.pipeline.estimate(**subject) for subject in unfinished]
    at_most = sum((bound for bound in bounds if bound is not None), Decimal(0))
    spent = sum(
        (line.total_cost for line in await job_costs(tools.costs, tools.job_id)), Decimal(0)
    )
    likely = (at_most / BYTES_PER_TOKEN).quantize(Decimal("1e-6"))
    # What an interrupted job has paid for already is not known here: its limit decides as it goes.
    if budget is not None and spent == 0 and likely > budget:
        raise BudgetExceededError(
            f"{len(unfinished)} bills would cost about {money(likely)} and at most "
            f"{money(at_most)}, more than the budget of {money(budget)}; nothing was sent",
            scope="job",
            limit_usd=budget,
            remaining_usd=budget,
            needed_usd=likely,
        )


async def _analyze_all(
    tools: Tools, job: Job, subjects: Sequence[Subject], *, show: bool
) -> list[Done]:
    gate = asyncio.Semaphore(AT_ONCE)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not show) as progress:
        task = progress.add_task("analysing", total=len(subjects))

        async def one(path: Path, subject: Subject) -> Done:
            async with gate:
                progress.update(task, description=subject["bill_id"])
                done = await _analyze_one(tools, job, path, subject)
                progress.advance(task)
                return done

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(p, s)) for p, s in zip(job.files, subjects, strict=True)]
    return [task.result() for task in tasks]


async def _analyze_one(tools: Tools, job: Job, path: Path, subject: Subject) -> Done:
    found = Done(str(path), subject["bill_id"])
    start_at = None if job.resume else "research"
    try:
        analysis = await tools.pipeline.run(start_at=start_at, job_id=tools.job_id, **subject)
    except UNIT_ERRORS as error:
        return replace(found, error=error)
    return replace(found, analysis=analysis)


async def _report(tools: Tools, job: Job, done: Sequence[Done], *, as_json: bool) -> None:
    lines = await job_costs(tools.costs, tools.job_id)
    invoice = tools.server.invoice.total_usd if tools.server else None
    if as_json:
        print_json(
            {
                "job_id": tools.job_id,
                "project": job.where.project,
                "runs": [_plain(d) for d in done],
                "costs": [line.model_dump(mode="json") for line in lines],
                "cost_usd": sum((line.total_cost for line in lines), Decimal(0)),
                "invoice_usd": invoice,
            }
        )
        return
    for d in done:
        out.rule(f"[bold]{d.bill_id}[/bold]", align="left")
        if d.analysis:
            show_analysis(d.analysis.model_dump(mode="json"))
        else:
            out.print(f"  [red]{type(d.error).__name__}[/red]: {d.error}\n")
    out.print(cost_table(lines, "step", f"What this job has cost, {job.where.project}"))
    if invoice is not None:
        out.print(
            f"[dim]The offline provider charged {money(invoice)} for what was sent now.[/dim]"
        )


def _plain(done: Done) -> dict[str, Any]:
    return {
        "file": done.file,
        "bill_id": done.bill_id,
        "run_id": done.analysis.run_id if done.analysis else getattr(done.error, "run_id", None),
        "analysis": done.analysis.model_dump(mode="json") if done.analysis else None,
        "error": {"type": type(done.error).__name__, "message": str(done.error)}
        if done.error
        else None,
    }
