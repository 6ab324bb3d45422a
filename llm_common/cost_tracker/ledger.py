"""The way of every row into the ledger: spool first, then the database in batches.

One `Ledger` per process and database, shared by all trackers. Rows wait in memory until the
database has acknowledged them; the spool holds them for as long.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
from collections import deque
from typing import Any
from weakref import WeakKeyDictionary

from ..database import Database
from ..errors import DatabaseError, DatabaseUnavailableError, SchemaError, SpoolError
from ..telemetry import event
from .spool import Spool, abandoned, folder_for, is_alive, unsettled

Row = dict[str, Any]
BATCH = 500
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
"""Pauses after a flush that failed: each is twice as long as the one before."""


class Ledger:
    """Spool and unacknowledged rows of this process for one database.

    Attributes:
        replayed: what dead processes of this machine left behind is in the database.
    """

    def __init__(self, identity: str) -> None:
        self.folder = folder_for(identity)
        self.spool = Spool(self.folder)
        self._pending: deque[Row] = deque()
        self._refused = 0
        self._guard = threading.Lock()
        self._open = 0
        self.replayed = False
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._drains: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def intend(self, row: Row) -> None:
        """Write down an attempt before it is sent.

        Raises:
            SpoolError: it can't be written; the attempt must not be sent.
        """
        self.spool.append("i", row)
        with self._guard:
            self._open += 1

    def record(self, row: Row, db: Database) -> None:
        """Write down what came of an attempt and start bringing it to the database."""
        with self._guard:
            self._open -= 1
        self.record_unsent(row, db)

    def record_unsent(self, row: Row, db: Database) -> None:
        """Record an attempt that never got as far as an intent."""
        with self._guard:
            self._pending.append(row)
        try:
            self.spool.append("r", row)
        except SpoolError:
            # The answer is paid for: the caller gets it, and the row goes by memory alone.
            event("spool.failed", level=logging.ERROR, operation=row["operation_id"])
        self._start_drain(db)

    async def add(self, row: Row, db: Database) -> None:
        """Record a row that had no intent, and wait until the database has it."""
        self.spool.append("r", row)
        with self._guard:
            self._pending.append(row)
        await self.flush(db)

    async def flush(self, db: Database) -> None:
        """Bring every waiting row to the database, in batches.

        Raises:
            DatabaseError: the rows stay, in memory and in the spool.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            await self._replay(db)
            while batch := self._take():
                try:
                    self._refused += await _settle(db, batch)
                except BaseException:
                    with self._guard:
                        self._pending.extendleft(reversed(batch))
                    raise
            if self._is_done():
                self.spool.acknowledged()

    def _take(self) -> list[Row]:
        with self._guard:
            return [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]

    def _start_drain(self, db: Database) -> None:
        """Bring what waits to the database in the background: one task per event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._drains:
            task = loop.create_task(self._drain(db))
            self._drains[loop] = task
            task.add_done_callback(lambda _: self._drains.pop(loop, None))

    async def _drain(self, db: Database) -> None:
        """Flush until nothing waits; cancelled by the end of its loop, flush once more."""
        pause_s = FIRST_PAUSE_S
        try:
            while self._pending:
                if not await self._try_flush(db):
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        except asyncio.CancelledError:
            await self._try_flush(db)
            raise

    async def _try_flush(self, db: Database) -> bool:
        try:
            await self.flush(db)
        except DatabaseError as error:
            event("ledger.flush_failed", level=logging.WARNING, error=type(error).__name__)
            return False
        return True

    async def _replay(self, db: Database) -> None:
        """Settle what dead processes of this machine left behind, once for each that was found."""
        if self.replayed:
            return
        for path, file in abandoned(self.folder, self.spool.path):
            rows, refused = unsettled(file.read()), 0
            for start in range(0, len(rows), BATCH):
                refused += await _settle(db, rows[start : start + BATCH])
            if not refused:
                path.unlink(missing_ok=True)
            event("spool.replayed", rows=len(rows), refused=refused, instance=path.stem)
        self.replayed = True

    def close(self) -> None:
        """Let the spool go; what the database has not acknowledged stays on disk."""
        self.spool.close(everything_acknowledged=self._is_done())

    def _is_done(self) -> bool:
        with self._guard:
            return not self._pending and self._open == 0 and self._refused == 0


async def _settle(db: Database, rows: list[Row]) -> int:
    """Settle rows; return how many the database will not have.

    One such row must keep neither the others nor every later call from their ledger: it stays in
    the spool, for the next process to try.

    Raises:
        DatabaseUnavailableError, SchemaError: none could be settled.
    """
    try:
        await db.call("llm_settle", {"rows": rows})
    except (DatabaseUnavailableError, SchemaError):
        raise
    except DatabaseError:
        if len(rows) > 1:
            return sum([await _settle(db, [row]) for row in rows])
        event("ledger.row_refused", level=logging.ERROR, operation=rows[0]["operation_id"])
        return 1
    return 0


_ledgers: dict[str, Ledger] = {}
_ledgers_guard = threading.Lock()


def ledger_for(db: Database) -> Ledger:
    """Return the ledger that this process keeps for a database."""
    with _ledgers_guard:
        if db.identity not in _ledgers:
            _ledgers[db.identity] = Ledger(db.identity)
        return _ledgers[db.identity]


def _close_all() -> None:
    for ledger in _ledgers.values():
        ledger.close()
    _ledgers.clear()


def _forget_all() -> None:
    """A forked child is a new instance: its parent keeps the files and what waits in them."""
    global _ledgers_guard  # noqa: PLW0603 - another thread may have held it in the parent
    _ledgers_guard = threading.Lock()
    for ledger in _ledgers.values():
        ledger.spool.forget()
    _ledgers.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)


def owner_of(db: Database) -> str:
    """Return the name by which this process owns runs: machine and process instance."""
    return f"{socket.gethostname()}:{ledger_for(db).spool.instance}"


def is_owner_alive(db: Database, owner: str) -> bool | None:
    """Tell whether an owner still runs; None when it is on another machine and can't be seen.

    Whoever finds one dead brings what it left behind to the database, with its next flush.
    """
    host, _, instance = owner.rpartition(":")
    if host != socket.gethostname():
        return None
    ledger = ledger_for(db)
    alive = is_alive(ledger.folder, instance)
    if not alive:
        ledger.replayed = False
    return alive
