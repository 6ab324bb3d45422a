"""Progress as it happens; who goes away leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from llm_common import EnrichmentPipeline
from llm_common.integrations.fastapi import enrichment_router
from tests.enrichment.world import World

from .conftest import COUNT
from .serving import HEADERS, Api, authorize, running
from .test_enrichment_api import CONFIG, submitted

FIELDS = {
    "job_id", "status", "progress", "started_at", "estimated_completion", "rate", "eta_s",
    "spend_usd", "unpriced",
}  # fmt: skip
SLOW = {**CONFIG, "batch_size": 1, "max_parallel_batches": 1}


def stream(api: Api, job_id: str, headers: dict[str, str] = HEADERS) -> Any:
    url = f"ws://127.0.0.1:{api.port}/enrichment/jobs/{job_id}/stream"
    return connect(url, additional_headers=headers)


async def sse(api: Api, job_id: str) -> AsyncIterator[dict[str, Any]]:
    async with api.stream("GET", f"/enrichment/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


def check(events: list[dict[str, Any]]) -> None:
    """Hold that events are those of a job from its beginning to its end."""
    assert {frozenset(event) for event in events} == {frozenset(FIELDS)}
    counts = [event["progress"]["completed"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == COUNT
    assert events[-1]["status"] == "completed"
    assert "completed" not in [event["status"] for event in events[:-1]]
    told = [json.dumps([e["status"], e["progress"], e["spend_usd"]]) for e in events]
    assert len(set(told)) == len(told)
    spent = [float(event["spend_usd"]) for event in events]
    assert spent == sorted(spent)
    assert spent[-1] > 0


async def test_both_ways_tell_the_same(api: Api, world: World) -> None:
    answer = await api.post(
        "/enrichment/jobs?start=false",
        json={"rows": world.rows(), "request": world.request().model_dump(mode="json"),
              "config": SLOW},
    )  # fmt: skip
    job_id = answer.json()["job_id"]

    async def over_websocket() -> list[dict[str, Any]]:
        async with stream(api, job_id) as socket:
            found = [json.loads(text) async for text in socket]
            assert socket.close_code == 1000
        return found

    async def over_sse() -> list[dict[str, Any]]:
        return [event async for event in sse(api, job_id)]

    following = asyncio.gather(over_websocket(), over_sse())
    while len(asyncio.all_tasks()) < 3:
        await asyncio.sleep(0.01)
    await api.ok("POST", f"/jobs/{job_id}/resume")
    for events in await following:
        check(events)


async def test_a_job_that_is_over_is_told_once(api: Api, world: World) -> None:
    job_id = await submitted(api, world)
    await api.over(job_id)
    assert [event["status"] async for event in sse(api, job_id)] == ["completed"]
    async with stream(api, job_id) as socket:
        assert [json.loads(text)["status"] async for text in socket] == ["completed"]


async def test_a_stranger_is_refused_before_the_handshake(api: Api, world: World) -> None:
    job_id = await submitted(api, world)
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(InvalidStatus) as refused:
            await stream(api, job_id, headers)
        assert refused.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as refused:
        await stream(api, "nothing")
    assert refused.value.response.status_code == 404


async def test_whatever_guards_the_status_guards_the_stream(
    pipeline: EnrichmentPipeline, world: World
) -> None:
    """A middleware for HTTP alone never sees a WebSocket."""
    app = FastAPI()
    outer = FastAPI()

    async def guard(request: Request, go_on: Any) -> Any:
        if request.headers.get("x-host") != "ours":
            from fastapi.responses import JSONResponse

            return JSONResponse({"detail": "not from here"}, 403)
        return await go_on(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    app.include_router(enrichment_router(pipeline, authorize=authorize), prefix="/v1")
    outer.mount("/api", app)
    async with running(outer) as api:
        api.headers["x-host"] = "ours"
        given = {"rows": world.rows(), "request": world.request().model_dump(mode="json")}
        answer = await api.post("/api/v1/enrichment/jobs?start=false", json=given)
        url = f"ws://127.0.0.1:{api.port}/api/v1/enrichment/jobs/{answer.json()['job_id']}/stream"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=HEADERS)
        assert refused.value.response.status_code == 403
        async with connect(url, additional_headers={**HEADERS, "x-host": "ours"}) as socket:
            assert json.loads(await socket.recv())["status"] == "pending"


async def test_who_goes_away_leaves_nothing_behind(api: Api, world: World) -> None:
    given = {"rows": world.rows(), "request": world.request().model_dump(mode="json")}
    job_id = (await api.ok("POST", "/jobs?start=false", json=given))["job_id"]
    before = names()
    sockets = [await stream(api, job_id) for _ in range(5)]
    for socket in sockets:
        await socket.recv()
    events = [sse(api, job_id) for _ in range(5)]
    for one in events:
        await anext(one)
    assert len(names()) > len(before)
    for socket in sockets:
        socket.transport.abort()
    for one in events:
        await one.aclose()
    while names() != before:
        await asyncio.sleep(0.05)


def names() -> list[str]:
    """Name what runs in this event loop for the streams."""
    running = (str(task.get_coro()) for task in asyncio.all_tasks())
    return sorted(name.split(" ")[2] for name in running if "_send" in name or "_produc" in name
                  or "_leaves" in name or "keepalive" in name)  # fmt: skip


async def test_the_server_ends_and_so_do_the_streams(app: FastAPI, world: World) -> None:
    async with running(app) as api:
        given = {"rows": world.rows(), "request": world.request().model_dump(mode="json")}
        job_id = (await api.ok("POST", "/jobs?start=false", json=given))["job_id"]
        socket = await stream(api, job_id)
        await socket.recv()
    with pytest.raises(ConnectionClosed):
        await socket.recv()
