"""A webhook on loopback that remembers what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SECRET = "T0/B0/not-for-logs"


@dataclass
class Receiver:
    """Answers as scripted, then with 200.

    Attributes:
        answers: statuses of the next answers.
        pause_s: how long each answer takes.
        bodies: what came, whatever the answer was.
    """

    url: str = ""
    answers: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [body["id"] for body in self.bodies]

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        await asyncio.sleep(self.pause_s)
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": f"{self.url}/elsewhere"})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Lend a running receiver."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/{SECRET}"
        yield receiver
    finally:
        await runner.cleanup()
