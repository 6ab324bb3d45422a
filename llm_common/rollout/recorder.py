"""Exposures and outcomes on their way to the database: in batches, behind the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..database import Database
from ..errors import DatabaseError
from ..telemetry import event
from .models import Exposure

FLUSH_S = 0.25
"""What a killed process can lose, and how late a decision can be."""
MOST_WAITING = 10_000
"""Rows kept while the database is away; the oldest go first, and count as lost."""
BATCH = 500
LONGEST_PAUSE_S = 30.0

Row = dict[str, Any]


class Recorder:
    """Writes what happened with one flag.

    Args:
        recorded: awaited after a batch, with the number of failures in a row of the new arm.
    """

    def __init__(
        self, db: Database, project: str, flag: str, recorded: Callable[[int], Awaitable[None]]
    ) -> None:
        self._db = db
        self._key = {"project": project, "flag": flag}
        self._recorded = recorded
        self._exposures: list[Row] = []
        self._outcomes: list[Row] = []
        self._unsure: Row | None = None
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._dropped = 0

    def exposed(self, exposure: Exposure, arm: str) -> None:
        """Write down that a unit was shown an arm."""
        row = {
            "id": exposure.id,
            "revision": exposure.revision,
            "unit_id": exposure.unit_id,
            "arm": arm,
            "reason": exposure.reason,
            "share": exposure.share,
            "counted": exposure.counted,
        }
        self._add(self._exposures, row)

    def ended(self, outcome: Row) -> None:
        """Write down what came of it."""
        self._add(self._outcomes, outcome)

    async def flush(self) -> None:
        """Write all there is.

        Raises:
            DatabaseError: it can't be written now; it is kept, and repeating it changes nothing.
        """
        while self._unsure or self._exposures or self._outcomes:
            async with self._sending:
                batch = self._unsure = self._unsure or self._next()
                answer = await self._db.call("llm_rollout_record", batch)
                self._unsure = None
            await self._recorded(answer["failures"])

    def _next(self) -> Row:
        exposures, self._exposures = self._exposures[:BATCH], self._exposures[BATCH:]
        outcomes: list[Row] = []
        # An outcome is never there before its exposure.
        if not self._exposures:
            outcomes, self._outcomes = self._outcomes[:BATCH], self._outcomes[BATCH:]
        return {**self._key, "exposures": exposures, "outcomes": outcomes}

    async def aclose(self) -> None:
        """Write what is left; what can't be written is lost, and said to be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.flush()
        except DatabaseError as error:
            unsure = self._unsure or {"exposures": [], "outcomes": []}
            left = (self._exposures, self._outcomes, unsure["exposures"], unsure["outcomes"])
            self._say_lost(self._dropped + sum(map(len, left)), type(error).__name__)

    def _add(self, rows: list[Row], row: Row) -> None:
        rows.append(row)
        if len(rows) > MOST_WAITING:
            del rows[0]
            self._dropped += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Flush until nothing is left; while the database is away, more and more slowly."""
        pause = FLUSH_S
        while self._unsure or self._exposures or self._outcomes:
            await asyncio.sleep(pause)
            try:
                await self.flush()
                pause = FLUSH_S
            except DatabaseError as error:
                pause = min(pause * 2, LONGEST_PAUSE_S)
                if self._dropped:
                    self._say_lost(self._dropped, type(error).__name__)
                    self._dropped = 0

    def _say_lost(self, rows: int, error: str) -> None:
        event(
            "rollout.not_recorded",
            level=logging.WARNING,
            flag=self._key["flag"],
            rows=rows,
            error=error,
        )
