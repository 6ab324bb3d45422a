"""The connector to a Postgres URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, DatabaseError, DatabaseUnavailableError, SchemaError
from ..types import JSON
from . import pool
from .handshake import FUNCTION as HANDSHAKE
from .handshake import handshake
from .payload import decode, encode

if TYPE_CHECKING:
    import psycopg

DEADLINE_S = 10.0

MIGRATE = "the database is not migrated: run `llm-common migrate up`"
NOT_MIGRATED = {"42883", "42P01", "3F000"}
"""undefined function, undefined table, invalid schema name"""
TOO_MANY = "53300"


class PostgresDatabase:
    """Calls SQL functions over psycopg.

    Args:
        url: a Postgres URL; a transaction pooler will do.
        schema: where the functions live.
        deadline_s: seconds that one call may take, waiting for a connection included.
    """

    def __init__(self, url: str, schema: str = "public", *, deadline_s: float = DEADLINE_S) -> None:
        self._identity = identity(url, schema)
        self._url = url
        self._schema = schema
        self._deadline_s = deadline_s
        self._agreed = False

    def __repr__(self) -> str:
        return f"PostgresDatabase({self._identity!r})"

    @property
    def identity(self) -> str:
        """Host, port, database and schema."""
        return self._identity

    async def call(self, function: str, payload: JSON) -> JSON:
        """Call a function; see `Database.call`."""
        if not self._agreed and function != HANDSHAKE:
            await handshake(self)
            self._agreed = True
        text = encode(payload)
        try:
            connections = pool.acquire(self._url, self)
            with connections.deadlines.within(self._deadline_s):
                answer = await self._call(connections, _statement(self._schema, function), text)
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"{self._identity} gave no answer to {function} within {self._deadline_s:g} s"
            ) from error
        except _error() as error:
            # The server's text may quote a payload: it stays out of the chain as well.
            raise translate(error, function, self._identity) from None
        return None if answer is None else decode(answer)

    async def _call(self, connections: pool.Pool, statement: bytes, text: str) -> bytes | None:
        try:
            return await _fetch(connections, statement, text)
        except _error() as error:
            if not is_lost(error):
                raise
        # The server closed an idle connection, and the others as well: once more, on a new one.
        # The call may have run; every function gives the same answer to the same ids.
        await connections.drop_idle()
        return await _fetch(connections, statement, text)

    async def notifications(self, channel: str) -> AsyncGenerator[str, None]:
        """Yield what is notified on a channel, over a connection of its own, until it is left.

        Behind a transaction pooler nothing ever arrives.

        Raises:
            DatabaseUnavailableError: the connection can't be made, or is lost.
        """
        from psycopg.sql import SQL, Identifier

        try:
            async with await pool.connect(self._url) as connection:
                await connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
                async for notification in connection.notifies():
                    yield notification.payload
        except _error() as error:
            raise translate(error, f"LISTEN {channel}", self._identity) from None

    async def aclose(self) -> None:
        """Leave the shared connections; the last user closes them."""
        await pool.release(self._url, self)


async def _fetch(connections: pool.Pool, statement: bytes, text: str) -> bytes | None:
    """Return the answer as it came: the driver's reading of JSON takes several times as long."""
    cursor = await connections.take()
    try:
        await cursor.execute(statement, (text,))
        result = cursor.pgresult
        return result.get_value(0, 0) if result else None
    finally:
        await connections.give_back(cursor)


def _error() -> type[psycopg.Error]:
    import psycopg

    return psycopg.Error


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether the connection is gone, rather than that the server refused."""
    import psycopg

    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


@lru_cache(maxsize=1024)
def _statement(schema: str, function: str) -> bytes:
    """Write the statement that calls a function; as bytes the driver need not compose it again."""
    from psycopg.sql import SQL, Identifier

    return SQL("SELECT {}(%s::jsonb)").format(Identifier(schema, function)).as_bytes()


def identity(url: str, schema: str) -> str:
    """Name a database without its user and password.

    Raises:
        ConfigurationError: the URL can't be read.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError(
            "the database URL can't be read: write postgresql://user:password@host:5432/database"
        ) from error
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    name = parts.get("dbname") or parts.get("user") or ""
    return f"postgres {host}:{parts.get('port') or 5432}/{name} {schema}"


def translate(error: psycopg.Error, function: str, where: str) -> DatabaseError:
    """Turn a driver's error into ours; the server's own text stays out."""
    import psycopg

    state = error.sqlstate
    if state in NOT_MIGRATED:
        return SchemaError(f"{where}: {function} failed with SQLSTATE {state}; {MIGRATE}")
    if is_lost(error) or (isinstance(error, psycopg.OperationalError) and state == TOO_MANY):
        return DatabaseUnavailableError(f"{where} can't be reached for {function}")
    return DatabaseError(f"{where}: {function} failed with SQLSTATE {state}")
