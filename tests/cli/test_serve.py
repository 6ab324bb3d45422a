"""`llm-common serve`: who has the address comes in, nobody else does, and Ctrl-C ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.cli.command import TIMEOUT_S, Command, Ended


@dataclass
class Serving:
    """A server of a test's own."""

    process: asyncio.subprocess.Process
    url: str

    @property
    def base(self) -> str:
        return self.url.partition("/enter")[0]

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.url).query)["token"][0]

    async def ended(self, by: int = signal.SIGINT) -> Ended:
        self.process.send_signal(by)
        out, err = await asyncio.wait_for(self.process.communicate(), TIMEOUT_S)
        return Ended(self.process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def served(cli: Command, *more: str) -> AsyncIterator[Serving]:
    process = await cli.start("serve", "--port", "0", *more)
    assert process.stdout
    try:
        line = await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
        text = line.decode()
        if "--json" in more:
            text += (await process.stdout.readuntil(b"}")).decode()
        yield Serving(process, json.loads(text)["url"] if "--json" in more else text.strip())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_address_opens_it_and_nothing_else_does(cli: Command) -> None:
    async with (
        served(cli) as it,
        httpx.AsyncClient(base_url=it.base, timeout=TIMEOUT_S) as stranger,
    ):
        assert it.url.startswith("http://127.0.0.1:")
        assert len(it.token) >= 32
        for path in ("/", "/page.js", "/page.css", "/openapi.json", "/enrichment/jobs"):
            assert (await stranger.get(path)).status_code == 401
        for wrong in ("", "?token=", "?token=wrong", f"?token={it.token}x", "?token=%C3%A9"):
            answer = await stranger.get(f"/enter{wrong}")
            assert (answer.status_code, answer.headers.get("set-cookie")) == (401, None)
        async with httpx.AsyncClient(
            base_url=it.base, follow_redirects=True, timeout=TIMEOUT_S
        ) as browser:
            entered = await browser.get(it.url)
            assert (entered.status_code, urlsplit(str(entered.url)).path) == (200, "/")
            assert "default-src 'none'" in entered.headers["content-security-policy"]
            assert (await browser.get("/enrichment/jobs")).json() == {"jobs": []}
            cookie = entered.history[0].headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
        bearer = {"Authorization": f"Bearer {it.token}"}
        told = await stranger.get("/openapi.json", headers=bearer)
        assert "/enrichment/jobs" in told.json()["paths"]
        ended = await it.ended()
    assert (ended.code, ended.out, ended.err) == (0, "", "")


async def test_another_port_of_the_host_is_not_our_page(cli: Command) -> None:
    """Cookies know no ports: who else listens on this host must not speak with ours."""
    async with served(cli) as it, httpx.AsyncClient(base_url=it.base, timeout=TIMEOUT_S) as browser:
        await browser.get(it.url)
        assert browser.cookies
        path = "/enrichment/jobs/nothing/cancel"
        ours = {"Origin": it.base}
        assert (await browser.post(path, headers=ours)).status_code == 404
        theirs = [
            {"Origin": "http://127.0.0.1:9"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
        ]
        for headers in theirs:
            assert (await browser.post(path, headers=headers)).status_code == 401
        cookie = "; ".join(f"{one.name}={one.value}" for one in browser.cookies.jar)
        stream = f"{it.base.replace('http', 'ws')}/enrichment/jobs/nothing/stream"
        for origin, status in ((it.base, 404), ("http://127.0.0.1:9", 401), ("null", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(stream, additional_headers={"Cookie": cookie, "Origin": origin})
            assert refused.value.response.status_code == status


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_while_somebody_listens(cli: Command, how: int) -> None:
    async with served(cli, "--json") as it:
        bearer = {"Authorization": f"Bearer {it.token}"}
        async with httpx.AsyncClient(base_url=it.base, headers=bearer, timeout=60) as api:
            request = {"keys": ["name"], "columns_to_enrich": ["party"]}
            given = {"rows": [{"name": "A"}], "request": request}
            answer = await api.post("/enrichment/jobs?start=false", json=given)
            job_id = answer.json()["job_id"]
            async with api.stream("GET", f"/enrichment/jobs/{job_id}/events") as events:
                lines = events.aiter_lines()
                assert "pending" in await anext(lines)
                ended = await it.ended(how)
        assert (ended.code, ended.err) == (0, "")


async def test_an_address_that_cannot_be_had(cli: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = await cli("serve", "--port", port)
        assert ended.code == 2
        assert f"127.0.0.1:{port} can't be listened on (Address already in use)" in ended.complaint
    assert "use another --port" in (await cli("serve", "--port", "99999")).complaint


async def test_without_uvicorn(cli: Command) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; sys.modules['uvicorn'] = None; from llm_common.cli import main; main()",
        "serve",
        env={**cli.environment, "PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    assert (process.returncode, err.decode().strip()) == (
        2,
        "llm-common: serve needs a server: pip install uvicorn",
    )
