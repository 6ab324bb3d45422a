"""A loopback server that answers as a recorded provider did."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiohttp import web

from tests.support import data_dir

Exchange = dict[str, Any]


@lru_cache(maxsize=1)
def exchanges() -> tuple[Exchange, ...]:
    """Every recorded exchange, or a skip where the material is absent."""
    text = (data_dir("wire") / "provider_exchanges.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def is_stream(exchange: Exchange) -> bool:
    return "response_json" not in exchange


@dataclass
class Replay:
    """A server that is running: where it is, and what it was asked."""

    url: str
    paths: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@asynccontextmanager
async def serving(respond: Any) -> AsyncIterator[Replay]:
    """Serve every POST with `respond(request) -> web.StreamResponse`."""
    replay = Replay("")

    async def handle(request: web.Request) -> web.StreamResponse:
        replay.paths.append(request.path_qs)
        replay.headers.append(dict(request.headers))
        replay.requests.append(await request.json())
        return await respond(request)

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    replay.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield replay
    finally:
        await runner.cleanup()


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    """Make a responder that always answers the same JSON (or text)."""
    text = body if isinstance(body, str) else json.dumps(body)

    async def respond(_: web.Request) -> web.StreamResponse:
        return web.Response(
            text=text, status=status, headers=headers, content_type="application/json"
        )

    return respond


def stream(text: str, piece: int = 700) -> Any:
    """Make a responder that streams a recorded text, cut without regard to its events."""
    raw = text.encode()

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for start in range(0, len(raw), piece):
            await response.write(raw[start : start + piece])
        await response.write_eof()
        return response

    return respond


@asynccontextmanager
async def replaying(exchange: Exchange) -> AsyncIterator[Replay]:
    """Serve the recorded answer of one exchange."""
    if is_stream(exchange):
        respond = stream(exchange["response_text"])
    else:
        kept = {k: v for k, v in exchange["response_headers"].items() if k.lower() == "retry-after"}
        respond = answer(exchange["response_json"], exchange["status"], kept)
    async with serving(respond) as replay:
        yield replay
