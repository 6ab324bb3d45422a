"""Progress as it happens: over WebSocket and as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from logging import WARNING
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from ...enrichment import EnrichmentPipeline
from ...errors import DatabaseUnavailableError
from ...runs import JobProgress
from ...runs.progress import looks
from ...telemetry import event
from .answers import ProgressEvent

EVERY_S = 1.0
"""Between two looks at a job, and so between two events at least."""

GOING_AWAY = 1001


async def progress_events(
    pipeline: EnrichmentPipeline, job_id: str
) -> AsyncGenerator[ProgressEvent]:
    """Yield how a job stands: at once, then when it has changed, until it is over.

    A database that can't be reached ends it too: whoever listens comes again.
    """
    shown: Any = None
    try:
        async with aclosing(looks(lambda: pipeline.progress(job_id), EVERY_S)) as seen:
            async for far in seen:
                # The rate alone changes all the time.
                if (state := _state(far)) != shown:
                    yield ProgressEvent.of(far)
                    shown = state
    except DatabaseUnavailableError as error:
        event("enrichment.events_ended", level=WARNING, error=type(error).__name__)


def _state(far: JobProgress) -> Any:
    return far.status, far.total, dict(far.counts), far.cost_usd


async def stream(websocket: WebSocket, pipeline: EnrichmentPipeline, job_id: str) -> None:
    """Send the events of a job to a WebSocket whose handshake may read the job's status."""
    status = await status_allowed(websocket)
    if status != 200:
        # Before `accept`: a server that knows no such answer says 403.
        refusal = JSONResponse({"detail": "the job's status can't be read"}, status)
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            await websocket.send_denial_response(refusal)
        else:
            await websocket.close()
        return
    await websocket.accept()
    tasks = [
        asyncio.create_task(_send(websocket, pipeline, job_id)),
        asyncio.create_task(_leaves(websocket)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect):
            raise error


async def _send(websocket: WebSocket, pipeline: EnrichmentPipeline, job_id: str) -> None:
    is_over = False
    async for now in progress_events(pipeline, job_id):
        await websocket.send_text(now.model_dump_json())
        is_over = now.status in {"completed", "failed", "cancelled"}
    with suppress(RuntimeError):
        await websocket.close(1000 if is_over else GOING_AWAY)


async def _leaves(websocket: WebSocket) -> None:
    """Wait until the client goes away; what it says is not listened to."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


async def status_allowed(websocket: WebSocket) -> int:
    """Return what GET of the job's status answers to the headers of a handshake.

    The application itself is asked, so that whatever guards the route, guards the stream.
    """
    scope = websocket.scope
    path = scope["path"].removesuffix("/stream") + "/status"
    raw = scope.get("raw_path") or path.encode()
    http: dict[str, Any] = {
        **scope,
        "type": "http",
        "method": "GET",
        "scheme": {"wss": "https"}.get(scope.get("scheme", "ws"), "http"),
        "path": path,
        "raw_path": raw.partition(b"?")[0].removesuffix(b"/stream") + b"/status",
        "extensions": dict[str, Any](),
    }
    status = 500

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await scope["app"](http, receive, send)
    return status
