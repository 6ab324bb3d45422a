"""An application behind uvicorn on a free port, and a client that may come in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

TOKEN = "open sesame"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}

bearer = HTTPBearer(auto_error=False)


def authorize(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
    """Let in who knows the token; as hosts write it."""
    if given is None or given.credentials != TOKEN:
        raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})
    return "ann"


class Api(httpx.AsyncClient):
    """A client of the application; `port` is where it listens."""

    port: int

    async def ok(self, method: str, path: str, **given: Any) -> Any:
        answer = await self.request(method, f"/enrichment{path}", **given)
        assert answer.is_success, answer.text
        return answer.json()

    async def refused(self, method: str, path: str, **given: Any) -> tuple[int, str]:
        """Return the status and the sentence of a refusal."""
        answer = await self.request(method, f"/enrichment{path}", **given)
        assert answer.is_error, answer.text
        body = answer.json()
        assert list(body) == ["detail"]
        assert isinstance(body["detail"], str)
        assert "Traceback" not in body["detail"]
        return answer.status_code, body["detail"]

    async def over(self, job_id: str) -> dict[str, Any]:
        """Wait until a job is over."""
        while True:
            status = await self.ok("GET", f"/jobs/{job_id}/status")
            if status["status"] in {"completed", "failed", "cancelled"}:
                return status
            await asyncio.sleep(0.05)


class _Server(uvicorn.Server):
    @property
    def is_up(self) -> bool:
        return self.started


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[Api]:
    """Serve an application in this event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        port = listening.getsockname()[1]
        async with Api(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=60) as api:
            api.port = port
            while not server.is_up:
                await asyncio.sleep(0.01)
            yield api
        server.should_exit = True
        await serving
