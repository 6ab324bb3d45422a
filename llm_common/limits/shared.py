"""What the processes of a project tell one another through Postgres.

Cooldowns are written when they happen and read at most once a second; a minute's requests and
tokens, and the slots for requests in flight, are leased in chunks. Where the database is away, or
not migrated, each process keeps to the limits by itself: rate limits are not money.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from ..database import Database
from ..errors import LLMCommonError
from ..telemetry import event
from ..types import Lane, RateLimits
from .gate import Gate
from .meter import Lease, Meter
from .window import Booking

READ_S = 1.0
"""Cooldowns are read at most this often."""
STALE_S = 2.0
"""Where there is another deployment to take, what is known is never older than this."""
LONE_CALLS, LONE_S = 20, 15.0
"""Where there is none, they are read every so many calls, or after so long: it saves one 429."""
PATIENCE_S = 1.0
"""The longest that a call waits for what others say, or to tell them."""
AWAY_S = 15.0
"""How long a database that failed is left alone."""
TOLD_FROM_S = 1.0
"""Shorter cooldowns are over before others hear of them."""
SLOT_TTL_S = 30.0
KEEP_S = 2.0
"""Leased slots are looked after this often: given back when fewer will do, and renewed."""


class Shared:
    """One project in one database, as this process sees it."""

    def __init__(self, project: str, own: Gate) -> None:
        self.project = project
        self._gate = own
        self._lock = threading.Lock()
        self._read_at = -math.inf
        self._calls = 0
        self._away_until = -math.inf
        self._is_told = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asking: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            WeakKeyDictionary()
        )
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def refresh(self, db: Database, *, alone: bool) -> None:
        """Learn what other processes cool down, where it is time to.

        Args:
            alone: there is no other deployment to take.
        """
        now = time.monotonic()
        with self._lock:
            self._calls += 1
            age_s = now - self._read_at
            due = age_s >= READ_S and now >= self._away_until
            if alone:
                due = due and (self._calls >= LONE_CALLS or age_s >= LONE_S)
            if not due:
                return
            self._read_at, self._calls = now, 0
        task = self._start(self._read(db))
        if not alone and age_s >= STALE_S:
            await asyncio.wait({task}, timeout=PATIENCE_S)

    async def announce(self, db: Database, lane: Lane, seconds: float) -> None:
        """Tell the other processes to leave a lane alone for so long."""
        if seconds < TOLD_FROM_S:
            return
        told = {"event_id": str(uuid4()), "lane": lane.id, "label": lane.label}
        task = self._start(self._ask(db, "llm_cool", {**told, "seconds": seconds}))
        await asyncio.wait({task}, timeout=PATIENCE_S)

    async def take_rate(
        self, db: Database, meter: Meter, limits: RateLimits, booking: Booking, lane: Lane
    ) -> float:
        """Take a request from the minute that all processes share.

        Returns:
            0 when it may be sent, else the seconds until the next minute.
        """
        if meter.take(booking, time.monotonic()):
            return 0.0
        lock = self._asking.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            now = time.monotonic()
            if meter.take(booking, now):
                return 0.0
            tokens = 0 if limits.tpm is None else booking.tokens
            if (dry_s := meter.dry_s(tokens, now)) > 0:
                return dry_s
            need = {"rpm": limits.rpm, "tpm": limits.tpm, "requests": 1, "tokens": tokens}
            about = {"take_id": str(uuid4()), "meter": meter.id, "label": lane.label}
            spare = _spare(meter.give_up_lease(now))
            answer = await self._ask(db, "llm_take_rate", {**about, **need, "spare": spare})
            if answer is None:
                return 0.0
            until = now + float(answer["resets_s"])
            if answer["granted"]:
                granted = (answer["requests"], answer["tokens"], int(answer["minute"]))
                meter.lease = Lease(*granted, until)
                if meter.take(booking, now):
                    return 0.0
            meter.dry_until, meter.dry_tokens = until, tokens
            return until - now

    def look_again(self, meter: Meter) -> None:
        """Share slots again, once the database may be back."""
        if meter.granted is None and time.monotonic() >= self._away_until:
            meter.granted = 0

    async def grow(self, db: Database, meter: Meter, limit: int, lane: Lane) -> None:
        """Lease the slots that the requests of this process want, as far as there are any."""
        if meter.capacity(limit) >= min(meter.slots.wanted, limit):
            return
        await self._lease_slots(db, meter, limit, lane)
        keeper = self._keepers.get(meter.id)
        if meter.granted and (keeper is None or _is_over(keeper)):
            self._keepers[meter.id] = self._start(self._keep(db, meter, limit, lane))

    async def _keep(self, db: Database, meter: Meter, limit: int, lane: Lane) -> None:
        """Renew leased slots while requests are in flight, and give back what is not needed."""
        while meter.granted:
            meter.slots.peak = meter.slots.in_flight
            await asyncio.sleep(KEEP_S)
            spare = _chunks(meter.slots.peak, limit) < (meter.granted or 0)
            if spare or meter.granted_until - time.monotonic() < SLOT_TTL_S * 2 / 3:
                await self._lease_slots(db, meter, limit, lane)

    async def _lease_slots(self, db: Database, meter: Meter, limit: int, lane: Lane) -> None:
        wanted = _chunks(max(meter.slots.wanted, meter.slots.peak), limit)
        asked = {"meter": meter.id, "label": lane.label, "limit": limit, "slots": wanted}
        until = time.monotonic() + SLOT_TTL_S
        answer = await self._ask(db, "llm_take_slots", {**asked, "ttl_s": SLOT_TTL_S})
        meter.granted = None if answer is None else int(answer["slots"])
        meter.granted_until = until

    async def _read(self, db: Database) -> None:
        answer = await self._ask(db, "llm_cooling", {})
        for lane_id, seconds in (answer or {}).get("cooling", {}).items():
            self._gate.cool(lane_id, float(seconds))

    async def _ask(
        self, db: Database, function: str, payload: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Call a function; None where it is not there, or can't be reached."""
        if time.monotonic() < self._away_until:
            return None
        try:
            own = {"project": self.project, "instance": self._gate.instance}
            answer: dict[str, Any] = await db.call(function, {**own, **payload})
        except LLMCommonError as error:
            self._away_until = time.monotonic() + AWAY_S
            if not self._is_told:
                self._is_told = True
                event("limits.local", level=logging.WARNING, error=type(error).__name__)
            return None
        self._is_told = False
        return answer

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _spare(lease: Lease | None) -> dict[str, int | None] | None:
    if lease is None:
        return None
    return {"minute": lease.minute, "requests": lease.requests, "tokens": lease.tokens}


def _is_over(task: asyncio.Task[None]) -> bool:
    return task.done() or task.get_loop().is_closed()


def _chunks(slots: int, limit: int) -> int:
    """Round up to eighths of the limit, so that a changing load changes leases rarely."""
    chunk = max(1, limit // 8)
    return min(math.ceil(slots / chunk) * chunk, limit)


def shared_for(own: Gate, db: Database, project: str) -> Shared:
    """Return what this process shares with the others of a project."""
    place = (db.identity, project)
    with own.lock:
        found = own.shared.get(place)
        if found is None:
            found = own.shared[place] = Shared(project, own)
        return found
