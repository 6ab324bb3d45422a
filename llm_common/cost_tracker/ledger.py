"""The way of every row into the ledger: spool first, then the database in batches.

One `Ledger` per process and database, shared by all trackers. Rows wait in memory until the
database has acknowledged them; the spool holds them for as long. What this process gives back of
its leases goes the same way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from ..database import Database, pool
from ..errors import DatabaseError, DatabaseUnavailableError, SchemaError, SpoolError
from ..telemetry import event
from .grants import Grants
from .leases import EVERYTHING, Leases, boot_clock
from .models import Hold, to_nano
from .spool import Abandoned, Row, Spool, abandoned, boot_id, folder_for

BATCH = 500
GATHER_S = 0.3
"""How long a drain gathers rows, up to a batch: one transaction brings all that came meanwhile."""
LONGEST_PAUSE_S = 30.0
"""Pauses after a flush that failed: each is twice as long as the one before, up to this."""


class Ledger:
    """Spool, leases and unacknowledged rows of this process for one database.

    Attributes:
        replayed: what dead processes of this machine left behind is in the database.
        db: what rows were last recorded through; for the end of the process.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._spool: Spool | None = None
        self.instance = str(uuid4())
        self.leases = Leases()
        self.grants = Grants(self)
        self.replayed = False
        self.db: Database | None = None
        self._pending: deque[Row] = deque()
        self._sending: dict[asyncio.AbstractEventLoop, list[Row]] = {}
        self._guard = threading.Lock()
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._drains: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._is_full: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Event] = (
            WeakKeyDictionary()
        )

    @property
    def spool(self) -> Spool:
        """The spool, made when it is first needed.

        Raises:
            SpoolError: it can't be made.
        """
        with self._guard:
            if self._spool is None:
                self._spool = Spool(folder_for(self._identity), self.instance)
            return self._spool

    def open_spool(self) -> None:
        """Make the spool now: what can't be written down must not be asked for either."""
        _ = self.spool

    @property
    def has_spool(self) -> bool:
        """Whether there is one, now or when it is tried once more."""
        try:
            return bool(self.spool)
        except SpoolError:
            return False

    def close(self, *, forget: bool = False) -> None:
        """Let the spool go; a forked child only forgets it."""
        if self._spool is not None:
            self._spool.forget() if forget else self._spool.close()

    def intend(self, row: Row) -> None:
        """Write down an attempt before it is sent.

        Raises:
            SpoolError: it can't be written; the attempt must not be sent.
        """
        self.spool.append("i", row)

    def record(self, hold: Hold, row: Row, db: Database) -> None:
        """Write down what came of an attempt and start bringing it to the database."""
        attempt = row["operation_id"], row["attempt_no"]
        self.leases.settle(attempt, to_nano(Decimal(row["cost_usd"] or 0)), boot_clock())
        self.record_unsent(row, db, spooled=hold.spooled)

    def record_unsent(self, row: Row, db: Database, *, spooled: bool = True) -> None:
        """Record an attempt that never got as far as an intent."""
        if spooled:
            try:
                self.spool.append("r", row)
            except SpoolError:
                # The answer is paid for: the caller gets it, and the row goes by memory alone.
                event("spool.failed", level=logging.ERROR, operation=row["operation_id"])
        with self._guard:
            self._pending.append(row)
            is_full = len(self._pending) == BATCH
        self.start_drain(db)
        if is_full:
            self._is_full[asyncio.get_running_loop()].set()

    async def add(self, row: Row, db: Database) -> None:
        """Record a row that had no intent, and wait until the database has it."""
        self.spool.append("r", row)
        with self._guard:
            self._pending.append(row)
        await self.flush(db)

    async def flush(self, db: Database, *, give_back: bool = False, poll: bool = False) -> None:
        """Bring every waiting row to the database, in batches, and say what leases gave back.

        Args:
            give_back: give every lease back, not only those that lie idle.
            poll: ask whether leases are called back, though there is nothing to tell.

        Raises:
            DatabaseError: the rows stay, in memory and in the spool.
        """
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            await self._replay(db)
            self.leases.close(boot_clock(), idle_only=not give_back)
            # Rows that come meanwhile are left to the next flush: each would be a transaction.
            while self._take() or self.leases.have_news or (poll and self.leases.are_open):
                if not await self._bring(db):
                    break

    async def bring_from_other_loops(self, db: Database) -> None:
        """Bring the batches of this process's other event loops too: to settle twice is as once.

        Raises:
            DatabaseError: the rows stay with those loops.
        """
        own = asyncio.get_running_loop()
        with self._guard:
            batches = [list(rows) for loop, rows in self._sending.items() if loop is not own]
        for rows in filter(None, batches):
            await _settle(db, rows, [])

    def _take(self) -> list[Row]:
        """Return the batch that this loop brings now; what a closed loop left goes first."""
        loop = asyncio.get_running_loop()
        with self._guard:
            for other in [other for other in self._sending if other.is_closed()]:
                self._pending.extendleft(reversed(self._sending.pop(other)))
            batch = self._sending.setdefault(loop, [])
            while self._pending and len(batch) < BATCH:
                batch.append(self._pending.popleft())
            return batch

    async def _bring(self, db: Database) -> bool:
        """Bring the batch of this loop; return whether there is more to bring at once.

        A batch that fails stays this loop's own.
        """
        batch = self._sending[asyncio.get_running_loop()]
        said = self.leases.statements(self.instance)
        accepted, answers = await _settle(db, batch, said)
        is_recalled = self.leases.heard(said, answers)
        is_full = len(batch) == BATCH
        over = [{"lease": lease} for lease in self.leases.over()]
        if self._spool is not None:
            self._spool.acknowledged([*accepted, *over])
        with self._guard:
            batch.clear()
        return is_full or is_recalled

    def start_drain(self, db: Database) -> None:
        """Bring what waits to the database in the background: one task per event loop."""
        self.db = db
        loop = asyncio.get_running_loop()
        if loop not in self._drains:
            self._is_full[loop] = asyncio.Event()
            self._drains[loop] = loop.create_task(self._drain(db))

    async def _drain(self, db: Database) -> None:
        """Flush until nothing waits and no lease is open; once more at the end of the loop.

        The connections of that loop end with it.
        """
        loop, pause_s = asyncio.get_running_loop(), GATHER_S
        try:
            while self.owes:
                await _first_of(self._is_full[loop], pause_s)
                well = await self.try_flush(db, poll=True)
                pause_s = GATHER_S if well else min(pause_s * 2, LONGEST_PAUSE_S)
        except asyncio.CancelledError:
            await self.try_flush(db, give_back=True)
            await pool.close()
            raise
        finally:
            self._drains.pop(loop, None)

    async def try_flush(self, db: Database, *, give_back: bool = False, poll: bool = False) -> bool:
        """Flush; tell whether it went well. What did not follows later."""
        try:
            await self.flush(db, give_back=give_back, poll=poll)
        except DatabaseError as error:
            event("ledger.flush_failed", level=logging.WARNING, error=type(error).__name__)
            return False
        return True

    async def _replay(self, db: Database) -> None:
        """Settle what dead processes of this machine left behind, once for each that was found."""
        if self.replayed or not self.has_spool:
            return
        for dead in abandoned(self.spool.folder, self.spool.path):
            rows, accepted = dead.left.rows, 0
            for start in range(0, len(rows), BATCH):
                accepted += len((await _settle(db, rows[start : start + BATCH], []))[0])
            refused = len(rows) - accepted
            if not refused:
                await _release(db, dead)
                dead.remove()
            event("spool.replayed", rows=len(rows), refused=refused, instance=dead.path.stem)
        self.replayed = True

    @property
    def owes(self) -> bool:
        """Whether the database lacks anything that only this process can tell it."""
        with self._guard:
            waiting = bool(self._pending) or any(self._sending.values())
        return waiting or self.leases.are_open or self.leases.have_news

    def orphan(self) -> None:
        """Take the batches of loops that do not run any more back: the process is ending."""
        with self._guard:
            for loop in [loop for loop in self._sending if not loop.is_running()]:
                self._pending.extendleft(reversed(self._sending.pop(loop)))


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event or a time, whichever comes first."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()


async def _settle(
    db: Database, rows: Sequence[Row], said: Sequence[Row]
) -> tuple[list[Row], list[Row]]:
    """Settle rows; return those that the database accepted, and what it answers on leases.

    A row that it will not have must keep neither the others nor every later call from their
    ledger: it stays in the spool, for the next process to try.

    Raises:
        DatabaseUnavailableError, SchemaError: none could be settled.
    """
    try:
        answer = await db.call("llm_settle", {"rows": list(rows), "leases": list(said)})
    except (DatabaseUnavailableError, SchemaError):
        raise
    except DatabaseError:
        if len(rows) == 1 and not said:
            event("ledger.row_refused", level=logging.ERROR, operation=rows[0]["operation_id"])
            return [], []
        if not rows:
            raise
        accepted = [row for each in rows for row in (await _settle(db, [each], []))[0]]
        return accepted, (await _settle(db, [], said))[1] if said else []
    return list(rows), answer.get("leases", [])


async def _release(db: Database, dead: Abandoned) -> None:
    """Free what a dead process did not use of its leases, once all its rows are in the ledger.

    Only while the machine has not been started anew: then the spool's last lines may be missing,
    and what they would have charged is charged when the leases expire.
    """
    if not dead.left.leases or dead.left.boot is None or dead.left.boot != boot_id():
        return
    said: list[dict[str, Any]] = [
        {
            "lease_id": lease["lease"],
            "project": lease["project"],
            "owner": dead.path.stem,
            "returned_nano": EVERYTHING,
            "is_closed": True,
        }
        for lease in dead.left.leases
    ]
    for start in range(0, len(said), BATCH):
        await _settle(db, [], said[start : start + BATCH])
