"""MIGRATION.md, from its first command to its last, in a host's own repository."""

from __future__ import annotations

import asyncio
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest

from llm_common.testing import ProviderServer
from tests.hosts.conftest import environment, run
from tests.servers import Server, execute, fetch
from tests.support import REPOSITORY, plan

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(1800)]

FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
HOSTS_OWN = """
    CREATE TABLE bills (id text PRIMARY KEY);
    INSERT INTO bills VALUES ('SB-1');
    INSERT INTO cost_tracking (model, cost_usd) VALUES ('gpt-4', 0.5);
"""
TIMEOUT_S = 1500


def blocks(language: str) -> list[str]:
    text = (REPOSITORY / "MIGRATION.md").read_text(encoding="utf-8")
    return [m["code"] for m in FENCE.finditer(text) if m["language"] == language]


def script() -> str:
    """Return all commands as one shell script that says where each block begins."""
    parts = [f"echo '--- block {i}'\n{code}" for i, code in enumerate(blocks("sh"))]
    return "set -eu\n" + "\n".join(parts)


async def run_guide(folder: Path, variables: dict[str, str]) -> list[str]:
    """Run the script and return what each block said."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script(),
        cwd=folder,
        env=environment() | variables,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    text = said.decode()
    assert process.returncode == 0, text
    return re.split(r"^--- block \d+\n", text, flags=re.MULTILINE)[1:]


def tables(url: str) -> list[tuple[str]]:
    return fetch(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")


@pytest.fixture
def host_url(server: Server, empty_url: str) -> str:
    """A host that has run the plan's SQL and has rows of its own."""
    plans = re.findall(r"```sql\n(.*?)```", plan("llm-common-migration.md"), re.DOTALL)
    execute(empty_url, "\n".join(sql for sql in plans if "CREATE TABLE" in sql))
    execute(empty_url, HOSTS_OWN)
    return empty_url


async def test_the_guide_from_zero_to_100_percent_and_back(
    fake: ProviderServer, server: Server, host_url: str, place: Path, origin: Path
) -> None:
    folder = place / "host"
    folder.mkdir()
    run("git", "init", "--quiet", cwd=folder)
    (program,) = blocks("python")
    (folder / "analyze.py").write_text(program)
    before = tables(host_url)
    variables = {
        **fake.environment(),
        "DATABASE_URL": host_url,
        "LLM_COMMON_PROJECT": "affordabot",
        "LLM_COMMON_REPOSITORY": str(origin),
        "LLM_COMMON_STATE_DIR": str(place / "state"),
        "LLM_COMMON_ROLLOUT_POLL_S": "0.2",
        "PATH": f"{server.programs}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.file.allow",
        "GIT_CONFIG_VALUE_0": "always",
    }
    said = await run_guide(folder, variables)
    (off,) = [
        text for text in said if "SB-2: analysed by the old code" in text and "not set" in text
    ]
    assert "llm_common" not in off
    kill, again = (
        text for text in said if text.count("SB-1: analysed") in {1, 2} and "SB-2" not in text
    )
    assert kill.count("SB-1: analysed by the old code") == 2
    assert "SB-1: analysed by llm_common" in again
    assert fetch(host_url, "SELECT id FROM bills") == [("SB-1",)]
    mine = "SELECT cost_usd FROM cost_tracking WHERE model = 'gpt-4'"
    assert fetch(host_url, mine) == [(Decimal("0.5"),)]
    assert tables(host_url) == before
    (comparison,) = blocks("sql")
    assert fetch(host_url, comparison)
