"""A web site on loopback whose answers a test writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from llm_common.crawling.addresses import guard

LOOPBACK = guard(["127.0.0.0/8", "::1/128"])


@dataclass
class Site:
    """Its URL, what it was asked, and the paths that it knows."""

    url: str
    pages: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
    asked: Counter[str] = field(default_factory=Counter)


@asynccontextmanager
async def site(
    pages: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]],
    host: str = "127.0.0.1",
) -> AsyncIterator[Site]:
    """Serve pages by path; a path that is not among them is 404."""
    served = Site("", dict(pages))

    async def answer(request: web.Request) -> web.StreamResponse:
        served.asked[request.path_qs] += 1
        page = served.pages.get(request.path)
        return await page(request) if page else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, 0).start()
        served.url = f"http://{host}:{runner.addresses[0][1]}"
        yield served
    finally:
        await runner.cleanup()


def page(
    body: bytes | str = "<p>Hello</p>", status: int = 200, **headers: str
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Always answer the same; ``Content_Type`` names the header ``Content-Type``."""
    raw = body.encode() if isinstance(body, str) else body
    named = {"Content-Type": "text/html"} | {k.replace("_", "-"): v for k, v in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=raw, status=status, headers=named)

    return answer


def redirect(to: str, status: int = 302) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answer with a redirect."""
    return page(b"", status, Location=to)
