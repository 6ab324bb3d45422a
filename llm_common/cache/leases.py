"""One flight per key: within a process callers wait for the first, beyond it for a lease row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from ..database import Database
from ..errors import DatabaseError
from ..telemetry import event

T = TypeVar("T")

POLL_S = 0.05
LONGEST_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Owner:
    """By what name this process holds leases, and whether another name is of a living one.

    Attributes:
        is_alive: None where that can't be seen, such as on another machine.
    """

    name: str
    is_alive: Callable[[str], bool | None]


class Leases:
    """The leases of one cache.

    Args:
        functions: how the names of its SQL functions begin.
    """

    def __init__(self, db: Database, owner: Owner, functions: str) -> None:
        self._db = db
        self._owner = owner
        self._functions = functions

    def new(self, key: str) -> dict[str, Any]:
        """Return what names a lease of this process; every flight has one of its own."""
        return {"cache_key": key, "owner": f"{self._owner.name}/{uuid4()}"}

    async def call(self, end: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Call a function of the cache."""
        return await self._db.call(f"{self._functions}_{end}", payload)

    async def claim(self, claim: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Return a stored answer or the lease, and whether another flight was waited for."""
        pause_s, dead, waited = POLL_S, None, False
        while True:
            answer = await self.call("claim", {**claim, "take_over": dead})
            if answer["state"] != "wait":
                return answer, waited
            waited = True
            holder, _, _ = answer["lease_owner"].partition("/")
            dead = answer["lease_owner"] if self._owner.is_alive(holder) is False else None
            if dead is None:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LONGEST_POLL_S)

    async def tell(self, end: str, payload: Mapping[str, Any]) -> None:
        """Tell the database how a flight ended; if it is away, the caller still gets his answer."""
        try:
            await self.call(end, payload)
        except DatabaseError as error:
            event("cache.not_kept", level=logging.WARNING, error=type(error).__name__)


class Flights(Generic[T]):
    """The flights of this process, by event loop and key."""

    def __init__(self) -> None:
        self._flights: dict[tuple[int, str], asyncio.Task[T]] = {}

    async def join(self, key: str, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """Return what the flight of a key brings, and whether it was there already.

        A caller that is cancelled takes nobody with it.

        Raises:
            Whatever ends the flight, in every caller that waited for it.
        """
        place = (id(asyncio.get_running_loop()), key)
        flight = self._flights.get(place)
        joined = flight is not None
        if flight is None:
            flight = self._flights[place] = asyncio.ensure_future(start())
            flight.add_done_callback(lambda ended: self._land(place, ended))
        return await asyncio.shield(flight), joined

    def _land(self, place: tuple[int, str], ended: asyncio.Task[T]) -> None:
        self._flights.pop(place, None)
        # Its callers may all be gone: then nobody else would ask for its error.
        if not ended.cancelled():
            ended.exception()
