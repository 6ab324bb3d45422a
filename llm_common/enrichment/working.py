"""What works on the rows of a job, put together from the library's parts and the host's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..context import current
from ..database import Database
from ..llm_client import LLMClient
from ..review import put_doubts
from ..runs import JobRecord, Pipeline, Retries, UnitRun, find_job
from ..web_search import WebSearchClient
from .choosing import DefaultCrawlDecisionMaker
from .components import Components
from .doubts import doubts_of
from .enricher import ModelEnricher
from .interfaces import LLMEnricher, StateStore, WebCrawler
from .models import EnrichmentRequest, PipelineConfig, RowState, RowStatus
from .pool import AskPool
from .queries import DefaultQueryStringBuilder
from .reading import PIPELINE, config_of, request_of
from .rows import VERSION, Parts, RowRun, step_versions
from .searching import WebSearchService
from .state_files import FileSystemStateStore


@dataclass(frozen=True, slots=True)
class Tools:
    """What all jobs of a pipeline are worked on with."""

    db: Database
    project: str
    llm: LLMClient
    search: WebSearchClient
    crawler: WebCrawler
    components: Components


def enricher_of(tools: Tools, request: EnrichmentRequest, config: PipelineConfig) -> LLMEnricher:
    """Return what reads values off pages."""
    return tools.components.enricher or ModelEnricher(
        tools.llm,
        keys=request.keys,
        model=config.model,
        max_input_tokens=config.max_input_tokens,
    )


def mirror_of(tools: Tools, config: PipelineConfig) -> StateStore | None:
    """Return where state is written besides Postgres."""
    if tools.components.state_store is not None:
        return tools.components.state_store
    if config.enable_state_persistence and config.state_persistence_path:
        return FileSystemStateStore(config.state_persistence_path)
    return None


def pool_of(tools: Tools, job: JobRecord) -> AskPool:
    """Return what rows of a job ask together through."""
    config = config_of(job)
    return AskPool(
        enricher_of(tools, request_of(job), config),
        # A call for several rows could be held against none of them.
        most_rows=1 if config.row_budget_usd is not None else config.batch_size,
        most_tokens=config.max_input_tokens,
    )


def pipeline_of(tools: Tools, job: JobRecord, pool: AskPool) -> Pipeline:
    """Return what works on the rows of a job."""
    config = config_of(job)
    made = tools.components
    count = config.crawl_config.max_results_per_query
    parts = Parts(
        request=request_of(job),
        config=config,
        builder=made.query_builder or DefaultQueryStringBuilder(),
        search=made.search_service or WebSearchService(tools.search, count=count),
        chooser=made.decision_maker or DefaultCrawlDecisionMaker(),
        crawler=tools.crawler,
        pool=pool,
    )
    store = mirror_of(tools, config)
    where = {"project": tools.project, "job_id": job.job_id}

    async def unit(run: UnitRun, given: Mapping[str, Any]) -> Any:
        async def note(status: RowStatus, data: Any = None) -> None:
            if store:
                state = RowState(row_id=run.unit_key, status=status, enriched_data=data)
                await store.save_row_state(job.job_id, state)

        output = await RowRun(run, given["data"], parts, note).enrich()
        await put_doubts(tools.db, where, run.id, run.unit_key, doubts_of(output))
        await note(RowStatus.COMPLETED, output["cells"])
        return output

    retries = Retries(config.max_retries, config.retry_delay_seconds)
    return Pipeline(PIPELINE, unit, VERSION, retries, step_versions())


def for_any_job(tools: Tools) -> Pipeline:
    """Return what works on the rows of whatever job a worker is at."""
    known: dict[str, Pipeline] = {}

    async def unit(run: UnitRun, given: Mapping[str, Any]) -> Any:
        job_id = current().job_id or ""
        if job_id not in known:
            job = await find_job(tools.db, tools.project, job_id)
            # Another row may have been here meanwhile: they ask through one pool.
            known.setdefault(job_id, pipeline_of(tools, job, pool_of(tools, job)))
        return await known[job_id].unit(run, given)

    return Pipeline(PIPELINE, unit, VERSION, Retries(times=2), step_versions())
