"""Tickets: how processes that wait learn of a job, over procrastinate; the units are elsewhere.

A ticket holds the ids of a project and a job and nothing else. Whoever takes one leaves the next
one for the same job, so that any other idle process joins. Tickets can be lost: each worker looks
around, and leaves one for every job that runs and has none.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, LiteralString, cast

from .. import extras
from ..database import pool
from ..database.postgres import identity, translate
from ..errors import DatabaseUnavailableError
from .canonical import digest

if TYPE_CHECKING:
    from procrastinate import App

    from ..database.pool import Connection

TASK = "llm_common.work"
LONGEST_QUEUE = 40
"""Bytes: procrastinate's prefix and a queue's name are a channel, and those end at 63."""
HEARTBEAT_S = 10.0
STALLED_S = 30.0
PREPARE_S = 60.0
POLL_S = 0.1


def queue_of(project: str, pipeline: str, version: int) -> str:
    """Name the queue of a pipeline's version: older code does not listen there."""
    name = f"llm_common.{project}.{pipeline}.v{version}"
    if len(name.encode()) > LONGEST_QUEUE:
        name = f"llm_common.{digest([project, pipeline])[:20]}.v{version}"
    return name


def require() -> Any:
    """Import procrastinate.

    Raises:
        MissingExtraError: it is not installed.
    """
    return extras.require("procrastinate", "workers")


class Tickets:
    """The tickets of one database and schema; made by `open_tickets`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def leave(self, project: str, job_id: str, queue: str) -> None:
        """Leave a ticket for a job, unless one waits."""
        from procrastinate.exceptions import AlreadyEnqueued

        task = self.app.configure_task(TASK, queue=queue, queueing_lock=job_id)
        try:
            # A batch of one: it is one statement, where a single one looks its task up as well.
            await task.batch_defer_async({"project": project, "job_id": job_id})
        except AlreadyEnqueued:
            return

    async def waiting(self) -> set[str | None]:
        """Return the jobs that have a ticket which nobody has taken."""
        return {
            one.queueing_lock for one in await self.app.job_manager.list_jobs_async(status="todo")
        }

    async def reap(self) -> int:
        """Put back the tickets of processes that show no life, and return how many there were."""
        from procrastinate.exceptions import ConnectorException
        from procrastinate.jobs import Status
        from procrastinate.utils import utcnow

        manager = self.app.job_manager
        stalled = list(await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_S))
        for ticket in stalled:
            try:
                await manager.retry_job(ticket, retry_at=utcnow())
            except ConnectorException:
                # The job's next ticket waits already, or another process was quicker.
                with suppress(ConnectorException):
                    await manager.finish_job(ticket, Status.FAILED, delete_job=True)
        return len(stalled)


@asynccontextmanager
async def open_tickets(url: str, schema: str) -> AsyncGenerator[Tickets]:
    """Open the tickets of a database; what procrastinate needs there is made if it is absent.

    Args:
        url: a direct one: behind a transaction pooler nobody hears of a new ticket.
        schema: where our tables are.

    Raises:
        MissingExtraError: the extra `workers` is not installed.
        DatabaseUnavailableError: the database can't be reached.
        DatabaseError: it refused to make the schema.
    """
    procrastinate = require()
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg_pool import PoolTimeout

    where, own = identity(url, schema), _own_schema(procrastinate.__version__, schema)
    try:
        await _prepare(url, own, procrastinate.schema.SchemaManager.get_schema())
    except psycopg.Error as error:
        raise translate(error, "making the tickets' schema", where) from None
    options = f"{conninfo_to_dict(url).get('options') or ''} -c search_path={own}".strip()
    connector = procrastinate.PsycopgConnector(
        conninfo=make_conninfo(url, options=options), min_size=1, max_size=3, timeout=10.0
    )
    app = procrastinate.App(connector=connector)
    try:
        await app.open_async()
    except PoolTimeout as error:
        await app.close_async()
        raise DatabaseUnavailableError(f"{where} can't be reached for tickets") from error
    try:
        yield Tickets(app)
    finally:
        await app.close_async()


def _own_schema(version: str, schema: str) -> str:
    """Name the schema of the tickets: of another version of procrastinate, another one.

    Tickets can be lost, so that nothing needs to be migrated. It is closed to all but its owner, as
    new schemas are.
    """
    major, minor = version.split(".")[:2]
    prefix = "llm" if schema == "public" else schema
    return f"{prefix}_tickets_{major}_{minor}"


async def _prepare(url: str, own: str, tables: str) -> None:
    """Make procrastinate's tables, unless they are there; one process at a time does."""
    connection = await pool.connect(url)
    try:
        if not await _has_tables(connection, own):
            await _locked(connection, own, lambda: _make_tables(connection, own, tables))
    finally:
        await connection.close()


async def _locked(connection: Connection, own: str, make: Callable[[], Awaitable[None]]) -> None:
    key = zlib.crc32(f"llm_common tickets {own}".encode())
    give_up_at = time.monotonic() + PREPARE_S
    while not await _value(connection, "SELECT pg_try_advisory_lock(%s)", key):
        if time.monotonic() > give_up_at:
            raise DatabaseUnavailableError("another process is making the tickets' schema")
        await asyncio.sleep(POLL_S)
    try:
        await make()
    finally:
        await _value(connection, "SELECT pg_advisory_unlock(%s)", key)


async def _make_tables(connection: Connection, own: str, tables: str) -> None:
    from psycopg.sql import SQL, Identifier

    if await _has_tables(connection, own):
        return
    async with connection.transaction():
        await connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(own)))
        await connection.execute(SQL("SET LOCAL search_path = {}").format(Identifier(own)))
        # procrastinate's own file: no value is put into it.
        await connection.execute(cast("LiteralString", tables))


async def _has_tables(connection: Connection, own: str) -> bool:
    table = f"{own}.procrastinate_jobs"
    return bool(await _value(connection, "SELECT to_regclass(%s) IS NOT NULL", table))


async def _value(connection: Connection, query: LiteralString, value: object) -> Any:
    cursor = await connection.execute(query, (value,))
    row = await cursor.fetchone()
    return row[0] if row else None


def queues_of(project: str, served: Iterable[tuple[str, int]]) -> Sequence[str]:
    """Return the queues of pipelines, each in its version and the older ones."""
    return [
        queue_of(project, name, version)
        for name, newest in served
        for version in range(1, newest + 1)
    ]
