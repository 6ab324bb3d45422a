"""One command starts a host, without a database or a key; the next one moves it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from examples.host_lines import HOSTS, count, row
from tests.examples import chats
from tests.examples.deployment import EXAMPLES

pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]

FOREIGN = ("MAKEFLAGS", "DATABASE_URL", "LLM_COMMON_PROJECT", "OPENROUTER_API_KEY", "ZAI_API_KEY")


def environment(state: Path) -> dict[str, str]:
    """Return a user's variables: nothing is set up."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "LLM_COMMON_STATE_DIR": str(state), "LLM_COMMON_ROLLOUT_POLL_S": "0.2"}


async def address(process: Process) -> tuple[str, str]:
    """Wait until a host is there; return its address and what it has said before."""
    assert process.stdout
    said = ""
    async for line in process.stdout:
        said += line.decode()
        if found := re.search(r"running on (http://\S+:\d+)", line.decode()):
            return found[1], said
    raise AssertionError(said)


@asynccontextmanager
async def running(host: str, state: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Run `make run`, on a free port; lend a client, and what the host has said."""
    process = await asyncio.create_subprocess_exec(
        *("make", "run", "PORT=0"),
        cwd=EXAMPLES / host,
        env=environment(state),
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        url, said = await asyncio.wait_for(address(process), 240)
        async with httpx.AsyncClient(base_url=url, timeout=180) as client:
            yield client, said
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 120)


def set_on(host: str, state: Path) -> None:
    """Move everybody to the new code, by the host's own command."""
    words = ["make", "rollout", 'do=set on --reason "a try"']
    subprocess.run(words, cwd=EXAMPLES / host, env=environment(state), check=True)


async def test_affordabot_starts_by_one_command(open_path: Path) -> None:
    bill = {"bill_id": "SB-9"}
    async with running("affordabot", open_path) as (client, said):
        assert "the embedded Postgres is used" in said
        assert "an offline stand-in answers" in said
        before = (await client.post("/analyze", json=bill)).json()["analysis"]
        assert before["written_by"] == "dual-model"
        await asyncio.to_thread(set_on, "affordabot", open_path)
        after = before
        async with asyncio.timeout(240):
            while after["written_by"] != "llm_common":
                after = (await client.post("/analyze", json=bill)).json()["analysis"]
        assert all(impact["evidence"] for impact in after["impacts"])
        costs = (await client.get("/costs")).json()
        assert float(costs["by_model"]["openai/gpt-4o"]) > 0
        assert (await client.post("/analyze", json={"bill_id": "SB-10"})).status_code == 404


async def test_prime_radiant_starts_by_one_command(open_path: Path) -> None:
    question = {"message": chats.QUESTIONS[0], "page": "portfolio"}
    async with running("prime_radiant", open_path) as (client, said):
        assert "the embedded Postgres is used" in said
        assert (await client.post("/chat", json=question)).status_code == 401
        client.headers.update(chats.authorization(*chats.users(1)))
        before = await client.post("/chat", json=question)
        assert before.json()["answered_by"] == chats.OLD
        await asyncio.to_thread(set_on, "prime_radiant", open_path)
        by, turns = chats.OLD, 1
        async with asyncio.timeout(240):
            while by != chats.NEW:
                by, _ = chats.read_stream(await client.post("/chat/stream", json=question))
                turns += 1
        assert len((await client.get("/chat/history")).json()) == 2 * min(turns, 10)


@pytest.mark.parametrize("host", HOSTS)
def test_the_new_code_of_a_host_is_half_of_the_old_at_most(host: str) -> None:
    old, new, choice = count(host)
    assert new <= old / 2
    assert new + choice < old
    assert row(host) in (EXAMPLES / "README.md").read_text()
    assert f"{old} lines go, {new} come" in (EXAMPLES / host / "README.md").read_text()
