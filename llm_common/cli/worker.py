"""`llm-common worker`: processes that work on jobs, and the one that watches over them."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from ..database import direct_url, migrations
from ..errors import ConfigurationError, InvalidInputError
from ..runs.pipeline import Pipeline
from ..runs.tickets import require
from ..runs.workers import Slots, serve
from ..telemetry import event
from .common import EMBEDDED, Where
from .worker_logs import log_as_json

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before a process that died is started again; one that lived for a minute starts at the front."""
LIVED_S = 60.0
FAILED = 2
"""What a process ends with whose command is wrong: starting it again would not help."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the command was told."""

    target: str
    processes: int
    slots: Slots
    once: bool
    is_child: bool


async def worker(where: Where, options: WorkerOptions) -> int:
    """Work, or watch over the processes that do; return the exit code."""
    require()
    log_as_json()
    if options.processes == 1:
        await _work(where, options)
        return 0
    return await _Watch(where, options).run()


async def _work(where: Where, options: WorkerOptions) -> None:
    """Work in this process until a signal, or the end of the parent."""
    stop = asyncio.Event()
    _on_first_signal(stop.set)
    if options.is_child:
        _when_parent_ends(stop.set)
    if where.database == EMBEDDED:
        await migrations.up(EMBEDDED)
    pipelines = await pipelines_of(options.target)
    await serve(
        where.database,
        where.project,
        pipelines,
        slots=options.slots,
        once=options.once,
        stop=stop,
    )


def _on_first_signal(stop: Callable[[], None]) -> None:
    """Stop in order at the first signal; the second ends the process, as it does by default."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        event("worker.stopping")
        stop()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, first)


def _when_parent_ends(stop: Callable[[], None]) -> None:
    """Stop when stdin ends: it is a pipe of the parent, which nobody writes to."""
    loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

    def ended() -> None:
        loop.remove_reader(stdin)
        stop()

    loop.add_reader(stdin, ended)


async def pipelines_of(target: str) -> list[Pipeline]:
    """Return what ``MODULE:NAME`` stands for: a `Pipeline`, several, or a function of them.

    Raises:
        InvalidInputError: there is no such module or name, or it is something else.
    """
    module_name, _, name = target.partition(":")
    if not (module_name and name):
        raise InvalidInputError(f"{target!r}: write MODULE:NAME, as in my_app.jobs:pipeline")
    if "" not in sys.path and os.getcwd() not in sys.path:
        # As `python -m` would: a console script begins in its own folder.
        sys.path.insert(0, os.getcwd())
    found = _named(module_name, name)
    if callable(found) and not isinstance(found, Pipeline):
        found = found()
        if inspect.isawaitable(found):
            found = await found
    several: list[Any] = [found] if isinstance(found, Pipeline) else _listed(found)
    if not several or not all(isinstance(one, Pipeline) for one in several):
        raise InvalidInputError(f"{target} is no Pipeline, no list of them and no function of them")
    return several


def _named(module_name: str, name: str) -> Any:
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{module_name} needs {error.name}: install it") from error
        raise InvalidInputError(
            f"there is no module {module_name} here: start the worker in the folder it is in"
        ) from error
    if not hasattr(module, name):
        raise InvalidInputError(f"{module_name} has nothing named {name}")
    return getattr(module, name)


def _listed(found: Any) -> list[Any]:
    return list(cast("Sequence[Any]", found)) if isinstance(found, list | tuple) else []


class _Watch:
    """Starts the processes, starts those again that die, and hands on signals."""

    def __init__(self, where: Where, options: WorkerOptions) -> None:
        self._where = where
        self._options = options
        self._stop = asyncio.Event()
        self._running: dict[int, Process] = {}
        self._codes: list[int] = []

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._hand_on, number)
        # The embedded server belongs to this process: the others only connect.
        url = await direct_url(self._where.database)
        if self._where.database == EMBEDDED:
            await migrations.up(EMBEDDED)
        keepers = (self._keep(place, url) for place in range(self._options.processes))
        await asyncio.gather(*keepers)
        return max(self._codes, default=0)

    def _hand_on(self, number: int) -> None:
        self._stop.set()
        for process in self._running.values():
            if process.returncode is None:
                process.send_signal(number)

    async def _keep(self, place: int, url: str) -> None:
        """Keep one process running."""
        deaths = 0
        while not self._stop.is_set():
            began = time.monotonic()
            process = self._running[place] = await self._start(url)
            if self._stop.is_set():
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
            event("worker.process_ended", place=place, code=code)
            if self._stop.is_set() or code in {0, FAILED}:
                self._codes.append(0 if self._stop.is_set() and code != FAILED else code)
                return
            deaths = 0 if time.monotonic() - began > LIVED_S else deaths
            await self._wait(BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)])
            deaths += 1

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    async def _start(self, url: str) -> Process:
        """Start a process of its own session: the terminal's Ctrl-C reaches it through us alone."""
        slots = self._options.slots
        more = [] if slots.ahead is None else ["--batch", str(slots.ahead)]
        more += ["--once"] if self._options.once else []
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from llm_common.cli import main; main()"),
            *("worker", self._options.target, "--processes", "1", "--child"),
            *("--concurrency", str(slots.at_once), "--project", self._where.project, *more),
            # Not among the arguments, which everybody on the machine can read.
            env={**os.environ, "DATABASE_URL": url},
            stdin=PIPE,
            start_new_session=True,
        )
