"""Enrichment over HTTP: jobs are submitted, watched, told what to do, and their results fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.websockets import WebSocket

from ...enrichment import EnrichmentPipeline, EnrichmentResult, JobStatus
from ...errors import InvalidInputError, JobStateError
from ...runs import JobRecord
from .answers import Accepted, Estimated, Job, Jobs, ProgressEvent, Requeued, Rows, Status
from .bodies import SUBMISSION
from .downloads import result_file, result_json
from .events import progress_events, stream
from .problems import ProblemRoute, absent, responses
from .reviewing import After, Limit, add_reviews
from .uploads import Limits, Order, read_order

UPLOAD_BYTES = 50_000_000

JobId = Annotated[str, Path(max_length=200)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key and body again is the same job.",
    ),
]
Format = Literal["json", "csv", "xlsx", "parquet", "jsonl"]
Start = Annotated[bool, Query(description="Whether work begins at once.")]
DryRun = Annotated[bool, Query(description="Estimate only: nothing is stored or paid.")]
Partial = Annotated[bool, Query(description="What there is so far, of a job that is not over.")]

MEDIA = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/jsonl",
}


def _temporary() -> Generator[FilePath]:
    """Lend a folder until the answer is sent."""
    with TemporaryDirectory(prefix="llm_common_") as name:
        yield FilePath(name)


Folder = Annotated[FilePath, Depends(_temporary)]


class _Jobs:
    """The routes' functions.

    Args:
        pipeline: works on the jobs.
        limits: of what clients send.
        model: of jobs that name none.
    """

    def __init__(self, pipeline: EnrichmentPipeline, limits: Limits, model: str | None) -> None:
        self._pipeline = pipeline
        self._limits = limits
        self._model = model

    async def submit(
        self,
        *,
        request: Request,
        response: Response,
        folder: Folder,
        start: Start = True,
        dry_run: DryRun = False,
        key: Key = None,
    ) -> Accepted | JSONResponse:
        """Submit a table, as rows in JSON or as a file in a form; it is worked on behind."""
        order = await read_order(request, folder, self._limits, self._model)
        if dry_run:
            return JSONResponse((await self._estimated(order)).model_dump(mode="json"))
        job_id = str(uuid4())
        found = await self._pipeline.submit(
            order.rows(),
            order.request,
            order.config,
            job_id=job_id,
            idempotency_key=key,
            rows_digest=order.rows_digest,
        )
        job = await self._pipeline.job(found)
        if start and job.status == "pending":
            # Another request with this key may have been faster.
            with suppress(JobStateError):
                await self._pipeline.start(found)
        response.status_code = 202 if found == job_id else 200
        return Accepted(job_id=found, status=JobStatus(job.status))

    async def _estimated(self, order: Order) -> Estimated:
        asked = order.rows(), order.request, order.config
        return Estimated.of(await asyncio.to_thread(self._pipeline.estimate, *asked))

    async def list(
        self, status: Annotated[JobStatus | None, Query()] = None, limit: Limit = 50
    ) -> Jobs:
        """List the jobs of the project, the latest first."""
        found = await self._pipeline.jobs(status, limit)
        return Jobs(jobs=tuple(Job.of(job) for job in found))

    async def job(self, job_id: JobId) -> Job:
        """Show a job as it was submitted."""
        return Job.of(await self.found(job_id))

    async def status(self, job_id: JobId) -> Status:
        """Show how far a job is."""
        await self.found(job_id)
        return Status.model_validate(await self._pipeline.status(job_id))

    async def result(
        self,
        job_id: JobId,
        folder: Folder,
        format: Format = "json",  # noqa: A002
        partial: Partial = False,
    ) -> Response:
        """Fetch what a job came to, as JSON or as a file."""
        await self.found(job_id)
        far = await self._pipeline.progress(job_id)
        if not (far.is_over or partial):
            raise JobStateError(
                f"job {job_id} is {far.status}, not over: wait, or ask with partial=true"
            )
        job = await self.found(job_id)
        if format == "json":
            text = result_json(self._pipeline, job, far)
            return StreamingResponse(text, media_type="application/json")
        path = await result_file(self._pipeline, job, folder, f".{format}")
        return FileResponse(path, media_type=MEDIA[format], filename=path.name)

    async def rows(self, job_id: JobId, after: After = 0, limit: Limit = 50) -> Rows:
        """Show rows with their cells and the evidence, in the order of the table."""
        await self.found(job_id)
        rows = tuple([r async for r in self._pipeline.rows(job_id, after=after, limit=limit)])
        return Rows(rows=rows, next=after + limit if len(rows) == limit else None)

    async def pause(self, job_id: JobId) -> Accepted:
        """Let rows under way end, and begin no more."""
        await self.found(job_id)
        await self._pipeline.pause(job_id)
        return await self._now(job_id)

    async def cancel(self, job_id: JobId) -> Accepted:
        """Stop a job; rows that are done keep their values."""
        await self.found(job_id)
        await self._pipeline.cancel(job_id)
        return await self._now(job_id)

    async def resume(self, job_id: JobId) -> Accepted:
        """Begin a job, or go on with one that was paused, cancelled or failed."""
        await self.found(job_id)
        await self._pipeline.resume(job_id)
        return await self._now(job_id)

    async def retry(self, job_id: JobId) -> Requeued:
        """Try the rows that failed again, and go on."""
        await self.found(job_id)
        count = await self._pipeline.retry(job_id)
        if count:
            with suppress(JobStateError):
                await self._pipeline.start(job_id)
        now = await self._now(job_id)
        return Requeued(job_id=job_id, status=now.status, requeued=count)

    async def found(self, job_id: JobId) -> JobRecord:
        """Return a job; 404 if there is none."""
        try:
            return await self._pipeline.job(job_id)
        except InvalidInputError as error:
            raise absent(error) from None

    async def _now(self, job_id: str) -> Accepted:
        job = await self._pipeline.job(job_id)
        return Accepted(job_id=job_id, status=JobStatus(job.status))


def enrichment_router(
    pipeline: EnrichmentPipeline,
    *,
    authorize: Callable[..., Any],
    max_upload_bytes: int = UPLOAD_BYTES,
    model: str | None = None,
) -> APIRouter:
    """Return the routes of enrichments: ``/enrichment/jobs`` and ``/enrichment/reviews``.

    Jobs run in this process, by the pipeline: close it when the application ends.

    Args:
        authorize: a dependency of FastAPI that raises `HTTPException` 401 or 403 for whoever may
            not come in; of the stream's handshake as well, which it sees as a GET of the status.
            A text that it returns is stored as who decided a review: a name, never a token.
        max_upload_bytes: of a body, in bytes; a larger one is answered with 413.
        model: is asked by jobs that name none; by default the task `extract`'s.

    Raises:
        InvalidInputError: there is no `authorize`, or the limit is none.

    Example:
        ``app.include_router(enrichment_router(pipeline, authorize=current_user))``
    """
    if not callable(authorize):
        raise InvalidInputError(
            "enrichment_router needs authorize=, a dependency that refuses strangers: "
            "these routes spend money"
        )
    if max_upload_bytes < 1:
        raise InvalidInputError("max_upload_bytes must be 1 or more")
    router = APIRouter(
        prefix="/enrichment",
        tags=["enrichment"],
        route_class=ProblemRoute,
        generate_unique_id_function=lambda route: route.name,
    )
    jobs = _Jobs(pipeline, Limits(max_upload_bytes), model)
    _add_submission(router, jobs, authorize)
    _add_reading(router, jobs, authorize)
    _add_events(router, jobs, pipeline, authorize)
    for action in (jobs.pause, jobs.cancel, jobs.resume, jobs.retry):
        router.add_api_route(
            f"/jobs/{{job_id}}/{action.__name__}",
            action,
            methods=["POST"],
            status_code=202 if action in {jobs.resume, jobs.retry} else 200,
            dependencies=[Depends(authorize)],
            responses=responses(404, 409),
            name=f"enrichment_{action.__name__}",
        )
    add_reviews(router, pipeline, authorize)
    return router


def _add_submission(router: APIRouter, jobs: _Jobs, authorize: Any) -> None:
    there = {"model": Accepted | Estimated, "description": "The job of this key, or an estimate"}
    router.add_api_route(
        "/jobs",
        jobs.submit,
        methods=["POST"],
        status_code=202,
        response_model=Accepted,
        dependencies=[Depends(authorize)],
        responses={200: there, **responses(402, 409, 413, 415)},
        openapi_extra=SUBMISSION,
        name="enrichment_submit",
    )


def _add_reading(router: APIRouter, jobs: _Jobs, authorize: Any) -> None:
    who = [Depends(authorize)]
    router.add_api_route(
        "/jobs", jobs.list, dependencies=who, responses=responses(), name="enrichment_jobs"
    )
    for path, read in (("", jobs.job), ("/status", jobs.status), ("/rows", jobs.rows)):
        router.add_api_route(
            f"/jobs/{{job_id}}{path}",
            read,
            dependencies=who,
            responses=responses(404),
            name=f"enrichment_{read.__name__}",
        )
    files = {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA.values()}
    router.add_api_route(
        "/jobs/{job_id}/result",
        jobs.result,
        dependencies=who,
        response_model=EnrichmentResult,
        responses={200: {"content": files}, **responses(404, 409)},
        name="enrichment_result",
    )


def _add_events(
    router: APIRouter, jobs: _Jobs, pipeline: EnrichmentPipeline, authorize: Any
) -> None:
    found = Depends(jobs.found)

    async def events(job: JobRecord = found) -> AsyncGenerator[ProgressEvent]:
        """Follow a job as server-sent events: at once, then on change, until it is over."""
        async for now in progress_events(pipeline, job.job_id):
            yield now

    async def follow(websocket: WebSocket, job_id: str) -> None:
        await stream(websocket, pipeline, job_id)

    router.add_api_route(
        "/jobs/{job_id}/events",
        events,
        dependencies=[Depends(authorize)],
        response_class=EventSourceResponse,
        responses=responses(404),
        name="enrichment_events",
    )
    router.add_api_websocket_route("/jobs/{job_id}/stream", follow, name="enrichment_stream")
