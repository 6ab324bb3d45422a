"""A pipeline of two steps that leaves a trace of each execution in a file of several processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_common.runs import Pipeline, UnitRun

PROJECT = "kills"
SECONDS = 0.03


def _gate(traces: str | Path) -> Path:
    return Path(f"{traces}.go")


def let_go(traces: str | Path) -> None:
    """Let executions go on that wait because their process has had its most."""
    _gate(traces).touch()


class TwoSteps:
    """Doubles a number twice and adds one.

    Args:
        traces: gets a line for each execution of a step: who, unit and step.
        most: executions of this process; more of them wait until the file of `let_go` is there, so
            that a process which is to be killed or stopped has work left whenever that happens.
    """

    def __init__(self, traces: str | Path, who: str, most: int | None = None) -> None:
        self._traces = traces
        self._who = who
        self._left = most
        self.pipeline = Pipeline("two steps", self.unit)

    async def double(self, x: int, unit: str, step: str) -> int:
        file = os.open(self._traces, os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{self._who} {unit} {step}\n".encode())
        os.close(file)
        await asyncio.sleep(SECONDS)
        if self._left is not None:
            self._left -= 1
            while self._left < 0 and not _gate(self._traces).exists():
                await asyncio.sleep(SECONDS)
        return 2 * x

    async def unit(self, run: UnitRun, given: Mapping[str, Any]) -> int:
        x: int = given["x"]
        for step in ("first", "second"):
            inputs = {"x": x, "unit": run.unit_key, "step": step}
            x = await run.step(step, self.double, inputs)
        return x + 1
