"""`EnrichmentPipeline`: a table goes in, values with evidence come out, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from logging import ERROR
from typing import Any

from ..cost_tracker import CostTracker
from ..crawling.host_turns import HostTurns
from ..database import Database
from ..errors import InvalidInputError, JobStateError
from ..llm_client import LLMClient
from ..runs import (
    CommitHook,
    JobProgress,
    JobRecord,
    NewJob,
    Pipeline,
    control,
    create_job,
    find_job,
    find_jobs,
    progress,
    rerun,
    retry,
    work,
)
from ..telemetry import event
from ..web_search import WebSearchClient
from .components import Components
from .estimating import Estimate, estimate
from .fetching import PageCrawler
from .intake import Rows, batched, peeked, units_for
from .models import (
    EnrichedRow,
    EnrichmentRequest,
    EnrichmentResult,
    JobState,
    JobStatus,
    PipelineConfig,
)
from .reading import (
    PIPELINE,
    config_of,
    job_state,
    options_of,
    progress_body,
    result_of,
)
from .row_ids import check_keys, identified
from .row_pages import rows_of
from .rows import VERSION, step_versions
from .state import PostgresStateStore
from .working import Tools, enricher_of, for_any_job, mirror_of, pipeline_of, pool_of

PILOT_ROWS = 5


class EnrichmentPipeline:
    """Enriches tables: each is a durable job, each row a unit of it.

    Args:
        llm: asks the models; every call is reserved and recorded through `costs`.
        search: finds pages; its cost goes the same way.
        costs: budgets and ledger; its project labels the jobs. Its database must be Postgres by
            URL, or embedded.
        components: what the host replaces.
    """

    def __init__(
        self,
        llm: LLMClient,
        search: WebSearchClient,
        costs: CostTracker,
        *,
        components: Components | None = None,
    ) -> None:
        self._costs = costs
        self._db: Database = costs.db
        self._components = components or Components()
        self._clients = llm.with_tracker(costs), search.with_tracker(costs)
        # Hosts are spared by all processes together.
        turns = HostTurns(self._db)
        self._crawler = None if self._components.crawler else PageCrawler(turns=turns)
        self._working: dict[str, asyncio.Task[JobProgress]] = {}

    @property
    def project(self) -> str:
        """The project that labels this pipeline's jobs."""
        return self._costs.project

    @property
    def db(self) -> Database:
        """Where its jobs and reviews are."""
        return self._db

    async def submit(
        self,
        rows: Rows,
        request: EnrichmentRequest,
        config: PipelineConfig | None = None,
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        rows_digest: str | None = None,
    ) -> str:
        """Store a job with its rows and return its id; nothing is paid before it is started.

        Rows with an empty key, or with the keys of an earlier row, are kept and skipped.

        Args:
            rows: of the table, each with its key columns; read as they are stored.
            job_id: by default a new one. The same id, or key, again is the same job.
            rows_digest: of the rows; the same key with another digest is another request.

        Raises:
            InvalidInputError: a key column is missing, or there is no row.
            JobConflictError: the id or key is that of another request.
        """
        config = config or PipelineConfig()
        first, rows = await asyncio.to_thread(peeked, rows)
        if first is None:
            raise InvalidInputError("the table has no rows: there is nothing to enrich")
        check_keys(list(first), request.keys)
        options = options_of(request, config, list(first), rows_digest)
        job = NewJob(PIPELINE, VERSION, options, job_id, idempotency_key, config.budget_usd)
        units = units_for(identified(batched(rows), request.keys))
        made, _ = await create_job(self._db, self.project, job, units)
        if store := mirror_of(self._tools, config):
            await store.save_job_state(job_state(made, None))
        return made.job_id

    async def start(self, job_id: str, *, on_commit: CommitHook | None = None) -> None:
        """Work on a job in the background; `wait` waits for its end.

        Raises:
            InvalidInputError: the project has no such job.
            JobStateError: this pipeline is working on it.
        """
        await self._found(job_id)
        if job_id in self._working:
            raise JobStateError(f"job {job_id} is running here: it can't be started twice")
        task = asyncio.create_task(self.run(job_id, on_commit=on_commit))
        self._working[job_id] = task

        def ended(_: asyncio.Task[JobProgress]) -> None:
            self._working.pop(job_id, None)
            if not task.cancelled() and (error := task.exception()):
                event("enrichment.stopped", level=ERROR, job_id=job_id, error=type(error).__name__)

        task.add_done_callback(ended)

    async def wait(self, job_id: str) -> JobProgress:
        """Wait until this process has done its work on a job; raises what stopped it."""
        if task := self._working.get(job_id):
            return await asyncio.shield(task)
        return await self.progress(job_id)

    async def run(self, job_id: str, *, on_commit: CommitHook | None = None) -> JobProgress:
        """Work on a job until it is over or paused. Others may work on it at the same time.

        Raises:
            InvalidInputError: the project has no such job.
            DatabaseError: the database refused, or was away for minutes.
        """
        job = await self._found(job_id)
        config = config_of(job)
        pool = pool_of(self._tools, job)
        try:
            return await work(
                self._db,
                self.project,
                job_id,
                pipeline_of(self._tools, job, pool),
                slots=config.batch_size * config.max_parallel_batches,
                on_commit=on_commit,
            )
        finally:
            await pool.aclose()
            if store := mirror_of(self._tools, config):
                await store.save_job_state(await self._state(job_id))

    async def enrich(
        self, rows: Rows, request: EnrichmentRequest, config: PipelineConfig | None = None
    ) -> EnrichmentResult:
        """Submit, run and return the result, all at once."""
        job_id = await self.submit(rows, request, config)
        await self.run(job_id)
        return await self.result(job_id)

    async def pilot(
        self,
        rows: Rows,
        request: EnrichmentRequest,
        config: PipelineConfig | None = None,
        *,
        count: int = PILOT_ROWS,
    ) -> EnrichmentResult:
        """Enrich the first rows, paid; the whole job then finds them done."""
        return await self.enrich(list(islice(rows, count)), request, config)

    def estimate(
        self, rows: Rows, request: EnrichmentRequest, config: PipelineConfig | None = None
    ) -> Estimate:
        """Return what a job would do and could cost, without paying for anything.

        Raises:
            InvalidInputError: a key column is missing, or there is no row.
        """
        config = config or PipelineConfig()
        return estimate(
            rows,
            request,
            config,
            enricher_of(self._tools, request, config),
            self._tools.search.engine,
        )

    async def progress(self, job_id: str) -> JobProgress:
        """Return how far a job is, with its rate, its costs and what is left."""
        await self._found(job_id)
        return await progress(self._db, self.project, job_id)

    async def status(self, job_id: str) -> dict[str, Any]:
        """Return how far a job is, in the words of the plan."""
        return progress_body(await self.progress(job_id))

    async def jobs(self, status: JobStatus | None = None, limit: int = 50) -> list[JobRecord]:
        """Return the jobs of the project, the latest first."""
        return await find_jobs(
            self._db, self.project, pipeline=PIPELINE, status=status, limit=limit
        )

    async def job(self, job_id: str) -> JobRecord:
        """Return a job as it was submitted.

        Raises:
            InvalidInputError: the project has no such job.
        """
        return await self._found(job_id)

    async def rows(
        self, job_id: str, *, after: int = 0, limit: int | None = None
    ) -> AsyncGenerator[EnrichedRow]:
        """Yield the rows of a job in the order of the table, whatever became of them so far.

        Args:
            after: so many rows of the table are left out.
            limit: at most so many.
        """
        job = await self._found(job_id)
        async for row in rows_of(self._db, self.project, job, after=after, limit=limit):
            yield row

    async def result(self, job_id: str) -> EnrichmentResult:
        """Return what a job has come to so far, with all its rows."""
        far = await self.progress(job_id)
        job = await self._found(job_id)
        rows = [row async for row in self.rows(job_id)]
        return result_of(job, far, rows)

    async def pause(self, job_id: str) -> None:
        """Let rows under way end, and begin no more.

        Raises:
            JobStateError: it is neither pending nor running.
        """
        await self._told(job_id, "pause")

    async def cancel(self, job_id: str) -> None:
        """Stop a job; rows that are done keep their values.

        Raises:
            JobStateError: it is over.
        """
        await self._told(job_id, "cancel")

    async def resume(self, job_id: str) -> None:
        """Begin a job, or go on with one that was paused, cancelled or failed, in the background.

        A job that is running, but that no process works on any more, is taken up as well.

        Raises:
            JobStateError: it is running here, or completed.
        """
        job = await self._found(job_id)
        if job_id in self._working:
            raise JobStateError(f"job {job_id} is running: it can't resume")
        if job.status == "failed":
            await retry(self._db, self.project, job_id)
        elif job.status not in {"pending", "running"}:
            await control(self._db, self.project, job_id, "resume")
        await self.start(job_id)

    async def retry(self, job_id: str, outcomes: Sequence[str] | None = None) -> int:
        """Queue the rows that failed again; return how many. `run` or `start` works on them."""
        await self._found(job_id)
        return await retry(self._db, self.project, job_id, outcomes)

    async def rerun(
        self,
        job_id: str,
        *,
        row_ids: Sequence[str] | None = None,
        steps: Sequence[str] = (),
        only_stale: bool = False,
    ) -> int:
        """Queue rows that are over again; return how many. `run` or `start` works on them.

        What is stored and not older than `max_age_days` is taken; the rest is asked for anew.

        Args:
            steps: of ``queries``, ``search``, ``choose``, ``crawl`` and ``enrich``, those that
                are executed anew whatever is stored.
            only_stale: only rows that older versions of the steps or the prompt have made.
        """
        await self._found(job_id)
        versions = step_versions() if only_stale else None
        return await rerun(
            self._db, self.project, job_id, units=row_ids, steps=steps, stale_for=versions
        )

    async def aclose(self) -> None:
        """Stop working; jobs go on where they are when they are started again."""
        for task in list(self._working.values()):
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        if self._crawler is not None:
            await self._crawler.aclose()

    def for_workers(self) -> Pipeline:
        """Return what a worker needs for any enrichment of this project, as `llm-common worker`."""
        return for_any_job(self._tools)

    @property
    def _tools(self) -> Tools:
        llm, search = self._clients
        crawler = self._crawler or self._components.crawler
        assert crawler is not None, "one of the two is there"
        return Tools(self._db, self.project, llm, search, crawler, self._components)

    async def _state(self, job_id: str) -> JobState:
        state = await PostgresStateStore(self._db, self.project).load_job_state(job_id)
        if state is None:  # pragma: no cover - it was there a moment ago
            raise InvalidInputError(f"project {self.project} has no job {job_id}")
        return state

    async def _told(self, job_id: str, action: Any) -> None:
        await self._found(job_id)
        await control(self._db, self.project, job_id, action)

    async def _found(self, job_id: str) -> JobRecord:
        job = await find_job(self._db, self.project, job_id)
        if job.pipeline != PIPELINE:
            raise InvalidInputError(f"job {job_id} is no enrichment: it is a job of {job.pipeline}")
        return job
