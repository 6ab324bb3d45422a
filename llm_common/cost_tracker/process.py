"""The ledgers of this process: one per database, gone with the process, new in a forked child."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..database import Database, pool
from ..telemetry import event
from .ledger import Ledger
from .spool import is_alive

LAST_FLUSH_S = 2.0
"""How long the end of the process waits for the database; what it does not get stays on disk."""

_ledgers: dict[str, Ledger] = {}
_ledgers_guard = threading.Lock()


def ledger_for(db: Database) -> Ledger:
    """Return the ledger that this process keeps for a database."""
    with _ledgers_guard:
        if db.identity not in _ledgers:
            _ledgers[db.identity] = Ledger(db.identity)
        return _ledgers[db.identity]


async def flush_quietly(db: Database) -> None:
    """Bring this process's rows to the database; they follow later if it can't have them now."""
    await ledger_for(db).try_flush(db)


def drain_on_sigterm() -> None:
    """Let SIGTERM end this process as an exit does: what is pending reaches the database first.

    Calls in flight are cancelled and recorded, leases are given back, and the exit code is 143.
    Call it once, in the main thread, inside `asyncio.run` if there is one. A host that handles
    SIGTERM by itself, as servers do, is left alone: it calls `CostTracker.aclose` when it shuts
    down. Without either nothing is lost, but it waits for the next process on this machine.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    try:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _exit, signal.SIGTERM)
    except RuntimeError:
        signal.signal(signal.SIGTERM, _exit)


def _exit(number: int, _frame: object = None) -> None:
    sys.exit(128 + number)


class _Inline(ThreadPoolExecutor):
    """Runs what it is given at once: no thread can be started while the interpreter ends."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = Future[Any]()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the result
            done.set_exception(error)
        return done


async def _flush_last() -> None:
    asyncio.get_running_loop().set_default_executor(_Inline())
    for ledger in _ledgers.values():
        ledger.orphan()
        if ledger.db is not None and ledger.owes:
            await ledger.try_flush(ledger.db, give_back=True)
    await pool.close()


def _close_all() -> None:
    """Tell the databases what only this process knows, in a moment or not at all."""
    if any(ledger.owes for ledger in _ledgers.values()):
        # Not asyncio.run: it ends its loop with the help of a thread.
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(_flush_last(), LAST_FLUSH_S))
        except Exception as error:  # noqa: BLE001 - whatever it is, the spool has the rows
            event("ledger.flush_failed", level=logging.WARNING, error=type(error).__name__)
        finally:
            loop.close()
    for ledger in _ledgers.values():
        ledger.close()
    _ledgers.clear()


def _forget_all() -> None:
    """A forked child is a new instance: its parent keeps the files and what waits in them."""
    global _ledgers_guard  # noqa: PLW0603 - another thread may have held it in the parent
    _ledgers_guard = threading.Lock()
    for ledger in _ledgers.values():
        ledger.close(forget=True)
    _ledgers.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)


def owner_of(db: Database) -> str:
    """Return the name by which this process owns runs: machine, spool folder, process instance."""
    ledger = ledger_for(db)
    # Without a spool there is no lock to see it by, so that nobody may take it for dead.
    where = _place(ledger.spool.folder) if ledger.has_spool else f"{socket.gethostname()}, unseen"
    return f"{where}:{ledger.instance}"


@lru_cache
def _place(folder: Path) -> str:
    """Name a machine and a folder on it.

    Two users of a machine, or two containers of one name, have folders of their own, and can't see
    each other's locks: neither may take the other for dead.
    """
    about = folder.stat()
    return f"{socket.gethostname()} {about.st_dev:x}.{about.st_ino:x}"


def is_owner_alive(db: Database, owner: str) -> bool | None:
    """Tell whether an owner still runs; None when it is elsewhere and can't be seen.

    Whoever finds one dead brings what it left behind to the database, with its next flush.
    """
    place, _, instance = owner.rpartition(":")
    ledger = ledger_for(db)
    if not ledger.has_spool or place != _place(ledger.spool.folder):
        return None
    alive = is_alive(ledger.spool.folder, instance)
    if not alive:
        ledger.replayed = False
    return alive
