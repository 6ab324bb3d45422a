"""Runs `llm-common` as a user does: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 150


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        return lines[0]


class Command:
    """The command, in an environment of the test's own.

    Attributes:
        environment: variables beside those that every process needs.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        kept = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ}
        coverage = {k: v for k, v in os.environ.items() if k.startswith("COV")}
        self.environment = {**kept, **coverage, "COLUMNS": "160", **environment}

    async def start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from llm_common.cli import main; main()",
            *map(str, arguments),
            env=self.environment,
            # Ctrl-C reaches the command even where the tests run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str | Path) -> Ended:
        process = await self.start(*arguments)
        out, err = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        return Ended(process.returncode or 0, out.decode(), err.decode())
