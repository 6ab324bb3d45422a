"""Connections of one process to one URL, shared by every client on an event loop.

Not psycopg's own pool: that one keeps worker tasks alive on the loop, waits out a growing
back-off after an outage, and logs the server's error text. This one connects when it must and
fails at once when it can't.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .deadline import Deadlines

if TYPE_CHECKING:
    from psycopg import AsyncConnection, AsyncCursor

    Connection = AsyncConnection[tuple[Any, ...]]
    Cursor = AsyncCursor[tuple[Any, ...]]

SIZE = 4
IDLE = 0
"""The transaction status of libpq: neither in a transaction nor in mid-statement."""
CONNECT_TIMEOUT_S = 5
CONNECT_PAUSES_S = (0.1, 0.3, 0.6)
"""Waits between attempts to connect: a server that is just starting or stopping refuses."""


class Pool:
    """At most `SIZE` connections, opened as needed and kept until the last user is gone.

    Each has one cursor that is kept as well: a new one would work out again how the same statement
    takes its parameters, which is a fifth of a round trip.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._slots = asyncio.Semaphore(SIZE)
        self._idle: list[Cursor] = []
        self.users: weakref.WeakSet[object] = weakref.WeakSet()
        self.deadlines = Deadlines()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection; a broken one, or one in mid-statement, is closed on return."""
        cursor = await self.take()
        try:
            yield cursor.connection
        finally:
            await self.give_back(cursor)

    async def take(self) -> Cursor:
        """Lend the cursor of a connection that nobody else uses; `give_back` must follow."""
        await self._slots.acquire()
        try:
            return self._idle.pop() if self._idle else (await connect(self._url)).cursor()
        except BaseException:
            self._slots.release()
            raise

    async def give_back(self, cursor: Cursor) -> None:
        """Take back what was lent; a broken connection, or one in mid-statement, is closed."""
        connection = cursor.connection
        try:
            if self.users and connection.pgconn.transaction_status == IDLE:
                self._idle.append(cursor)
            else:
                await connection.close()
        finally:
            self._slots.release()

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().connection.close()


async def connect(url: str) -> Connection:
    """Open one connection, in autocommit and without prepared statements.

    Transaction poolers hand each statement to another server process, so that a prepared one
    would not be found.

    Raises:
        psycopg.Error: after a few attempts.
    """
    import psycopg

    for pause_s in CONNECT_PAUSES_S:
        try:
            return await _connect_once(url)
        except psycopg.OperationalError:
            await asyncio.sleep(pause_s)
    return await _connect_once(url)


async def _connect_once(url: str) -> Connection:
    import psycopg

    return await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_TIMEOUT_S,
        client_encoding="utf8",
    )


_Pools = dict[tuple[int, str], Pool]
_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = weakref.WeakKeyDictionary()


def acquire(url: str, user: object) -> Pool:
    """Return the pool of this process, event loop and URL, and count `user` among its users."""
    pools = _pools.setdefault(asyncio.get_running_loop(), {})
    place = (os.getpid(), url)
    pool = pools.get(place)
    if pool is None:
        pool = pools[place] = Pool(url)
    pool.users.add(user)
    return pool


async def release(url: str, user: object) -> None:
    """Forget `user`; the last one closes the connections."""
    pools = _pools.get(asyncio.get_running_loop(), {})
    pool = pools.get((os.getpid(), url))
    if pool is None:
        return
    pool.users.discard(user)
    if not pool.users:
        await pool.drop_idle()


async def close() -> None:
    """Close the idle connections of this event loop, whoever still counts as their user."""
    for pool in _pools.pop(asyncio.get_running_loop(), {}).values():
        pool.users.clear()
        await pool.drop_idle()
