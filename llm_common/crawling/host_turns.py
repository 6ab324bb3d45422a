"""Turns at a host over all processes of a database: one visit in a pause, whoever pays it."""

from __future__ import annotations

import asyncio

from ..database import Database


class HostTurns:
    """Turns at hosts, which every process of this database takes from the same table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def wait(self, host: str, pause_s: float) -> None:
        """Wait until this caller may visit a host; the next one's turn is `pause_s` seconds later.

        Raises:
            DatabaseError: the turn could not be taken, and the host must not be visited.
        """
        answer = await self._db.call("llm_host_turn", {"host": host.lower(), "pause_s": pause_s})
        if answer["wait_s"] > 0:
            await asyncio.sleep(answer["wait_s"])
