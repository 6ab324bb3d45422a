"""One connection of the migrator: its lock, its history, its transactions."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString, cast

from ...errors import DatabaseUnavailableError, MigrationError
from ..connect import direct_url
from ..pool import connect
from ..postgres import identity, translate
from .files import Migration

if TYPE_CHECKING:
    import psycopg

    from ..pool import Connection

RECORD = "INSERT INTO llm_migrations (version, name, checksum) VALUES (%s, %s, %s)"
FORGET = "DELETE FROM llm_migrations WHERE version = %s"
FORGET_DROPPED = """
    DELETE FROM llm_objects WHERE CASE kind
        WHEN 'function' THEN NOT EXISTS (
            SELECT FROM pg_proc WHERE proname = name
            AND pronamespace = quote_ident(current_schema())::regnamespace)
        WHEN 'column' THEN to_regclass(quote_ident(split_part(name, '.', 1))) IS NULL
        ELSE to_regclass(quote_ident(name)) IS NULL
    END
"""

LOCK_WAIT_S = 60.0
LOCK_POLL_S = 0.1
LOCK_TIMEOUT = "5s"
"""How long a statement waits for a table's lock, so that a migration never stalls its host."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of the history."""

    version: str
    name: str
    checksum: str
    applied_at: datetime


class Session:
    """A direct connection, working in one schema."""

    def __init__(self, connection: Connection, schema: str) -> None:
        self.schema = schema
        self._connection = connection

    async def rows(self, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Run a query of ours, in the schema."""
        async with self._connection.transaction():
            await self._enter_schema()
            cursor = await self._connection.execute(statement, values)
            return await cursor.fetchall()

    async def history(self) -> list[Applied]:
        """Return what has been applied, oldest first; empty for a database without a history."""
        if not await self._has("llm_migrations"):
            return []
        return [
            Applied(*row)
            for row in await self.rows(
                "SELECT version, name, checksum, applied_at FROM llm_migrations ORDER BY version"
            )
        ]

    async def _has(self, table: str) -> bool:
        return (await self.rows("SELECT to_regclass(%s) IS NOT NULL", table))[0][0]

    async def make_schema(self) -> None:
        """Create the schema unless it is there."""
        from psycopg.sql import SQL, Identifier

        found = await self.rows("SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", self.schema)
        if not found[0][0]:
            await self._connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(self.schema)))

    async def apply(self, file: Migration) -> None:
        """Run a migration and record it, in one transaction.

        Raises:
            MigrationError: it failed, and nothing has changed.
        """
        async with self._migrating(file.file, file.sql):
            await self._execute(file.sql)
            await self._connection.execute(RECORD, (file.version, file.name, file.checksum))

    async def undo(self, file: Migration) -> None:
        """Run a rollback and forget the migration, in one transaction.

        Raises:
            MigrationError: it failed, and nothing has changed.
        """
        async with self._migrating(f"rollback/{file.file}", file.rollback):
            # First, because the oldest rollback drops the history itself.
            await self._connection.execute(FORGET, (file.version,))
            await self._execute(file.rollback)
            if await self._has("llm_objects"):
                await self._connection.execute(FORGET_DROPPED)

    async def _execute(self, sql: str) -> None:
        # The repository's own files, or an installed wheel's: no value is put into them.
        await self._connection.execute(cast("LiteralString", sql))

    @asynccontextmanager
    async def _migrating(self, name: str, sql: str) -> AsyncGenerator[None]:
        import psycopg

        try:
            async with self._connection.transaction():
                await self._check_lock()
                await self._enter_schema()
                yield
        except psycopg.Error as error:
            raise _failed(name, error, sql) from error

    @asynccontextmanager
    async def locked(self) -> AsyncGenerator[None]:
        """Hold the migrators' lock: polled, because waiting in the server can deadlock two.

        Raises:
            MigrationError: another migrator kept it for a minute.
        """
        deadline = time.monotonic() + LOCK_WAIT_S
        while not (await self.rows("SELECT pg_try_advisory_lock(%s)", self._key))[0][0]:
            if time.monotonic() > deadline:
                raise MigrationError("another migrator holds the lock: wait until it is done")
            await asyncio.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            await self.rows("SELECT pg_advisory_unlock(%s)", self._key)

    @property
    def _key(self) -> int:
        return zlib.crc32(f"llm_common migrations {self.schema}".encode())

    async def _check_lock(self) -> None:
        cursor = await self._connection.execute(
            "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            " AND classid = 0 AND objid = %s AND granted",
            (self._key,),
        )
        if await cursor.fetchone() is None:
            raise MigrationError(
                "this connection goes through a transaction pooler: migrate over a direct one"
            )

    async def _enter_schema(self) -> None:
        from psycopg.sql import SQL, Identifier

        await self._connection.execute(
            SQL("SET LOCAL search_path = {}, pg_temp").format(Identifier(self.schema))
        )
        await self._connection.execute(SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        await self._connection.execute("SET LOCAL client_min_messages = warning")


@asynccontextmanager
async def session(db: str | None, schema: str) -> AsyncGenerator[Session]:
    """Open a session on a URL; None means `DATABASE_URL`.

    Raises:
        ConfigurationError: no URL is named, or it can't be read.
        DatabaseUnavailableError: no connection, or it was lost.
        DatabaseError: the database refused a query of ours.
    """
    import psycopg

    url = await direct_url(db)
    where = identity(url, schema)
    try:
        connection = await connect(url)
    except psycopg.Error as error:
        raise DatabaseUnavailableError(f"{where} can't be reached") from error
    try:
        yield Session(connection, schema)
    except psycopg.Error as error:
        raise translate(error, "the migrator", where) from error
    finally:
        await connection.close()


def _failed(file: str, error: psycopg.Error, sql: str) -> MigrationError:
    """Say which file failed, with what and on which line."""
    position = error.diag.statement_position
    line = f" on line {sql.count(chr(10), 0, int(position)) + 1}" if position else ""
    reason = error.diag.message_primary or "no answer"
    return MigrationError(f"{file} failed{line} with SQLSTATE {error.sqlstate}: {reason}")
