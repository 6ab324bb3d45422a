"""Group commit: what many units write at the same time is one transaction.

A unit waits for the commit only before it does something: its intent is durable before the call
that it announces. What it has done is written behind it, in order, so that a step's result is
durable before the next step of the unit begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Any, Literal, NamedTuple

from ..database import Database
from ..errors import DatabaseUnavailableError, FencedError
from ..telemetry import event

GATHER_S = 0.001
"""What the first of a batch waits for others."""
MOST_AT_ONCE = 24
"""Small batches: who waits for one waits less, and units drift apart that began together."""
MOST_BYTES = 4_000_000
"""Of one batch, about: a page of outputs must not hold up everything else."""
PATIENCE_S = 300.0
"""How long a database may be away before its jobs are given up."""
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)

Kind = Literal["finishes", "begins", "ends"]


class _Entry(NamedTuple):
    number: int
    kind: Kind
    item: dict[str, Any]
    size: int
    future: asyncio.Future[Any]


class GroupWriter:
    """Writes what units begin, finish and end, as `llm_units_write` takes it.

    In the order in which it came, and what a unit has put behind itself goes with what it waits
    for: a slot whose next unit has begun has nothing of the one before that is not durable.

    Args:
        owner: the process in whose name it writes.
    """

    def __init__(self, db: Database, owner: str) -> None:
        self._db = db
        self._owner = owner
        self._begins: deque[_Entry] = deque()
        self._behind: dict[str, list[_Entry]] = {}
        self._numbers = count()
        self._writing: asyncio.Task[None] | None = None

    async def begin(self, item: dict[str, Any]) -> Mapping[str, Any]:
        """Write an intent and return its answer, once it is durable.

        Raises:
            FencedError: a successor took the run over.
            DatabaseError: the database refused, or was away for `PATIENCE_S`.
        """
        entry = self._entry("begins", item, 0)
        self._begins.append(entry)
        return await entry.future

    def put(self, kind: Kind, item: dict[str, Any], size: int = 0) -> asyncio.Future[Any]:
        """Write a finish or an end behind the caller; the future has the answer, or the error.

        Args:
            size: bytes of it, about.
        """
        entry = self._entry(kind, item, size)
        self._behind.setdefault(item["run_id"], []).append(entry)
        return entry.future

    @property
    def is_busy(self) -> bool:
        """Whether something is not durable yet."""
        return self._writing is not None

    async def flush(self) -> None:
        """Wait until everything that was put is durable, or has failed."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    def _entry(self, kind: Kind, item: dict[str, Any], size: int) -> _Entry:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # Who does not wait must not be told of an error that nobody fetched.
        future.add_done_callback(_look)
        if self._writing is None:
            self._writing = asyncio.create_task(self._work())
        return _Entry(next(self._numbers), kind, item, size, future)

    async def _work(self) -> None:
        try:
            while self._begins or self._behind:
                if len(self._begins) + len(self._behind) < MOST_AT_ONCE:
                    await asyncio.sleep(GATHER_S)
                await self._commit(self._batch())
        finally:
            self._writing = None

    def _batch(self) -> list[_Entry]:
        taken: list[_Entry] = []
        room = MOST_BYTES
        while (self._begins or self._behind) and len(taken) < MOST_AT_ONCE and room > 0:
            oldest = next(iter(self._behind), None)
            if oldest is None or (
                self._begins and self._begins[0].number < self._behind[oldest][0].number
            ):
                begin = self._begins.popleft()
                before = self._behind.pop(begin.item["run_id"], [])
                taken += [*before, begin]
            else:
                before = self._behind.pop(oldest)
                taken += before
            room -= sum(entry.size for entry in before)
        return taken

    async def _commit(self, batch: list[_Entry]) -> None:
        payload: dict[str, Any] = {"owner": self._owner, "finishes": [], "begins": [], "ends": []}
        for number, entry in enumerate(batch):
            payload[entry.kind].append({"n": number, **entry.item})
        try:
            answer = await insistently(self._db, "llm_units_write", payload)
        except BaseException as error:
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        answers = {one["n"]: one for one in answer["answers"]}
        for number, entry in enumerate(batch):
            if entry.future.done():
                continue
            if number in answers:
                entry.future.set_result(answers[number])
            else:
                run_id = entry.item["run_id"]
                fenced = f"run {run_id} was taken over by another worker"
                entry.future.set_exception(FencedError(fenced, run_id=run_id))


def _look(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


async def insistently(
    db: Database, function: str, payload: Mapping[str, Any], patience_s: float = PATIENCE_S
) -> Any:
    """Call a function until the database answers: while it restarts, a job waits.

    Raises:
        DatabaseError: the function refused, or the database was away for so long.
    """
    give_up_at = time.monotonic() + patience_s
    tries = 0
    while True:
        try:
            return await db.call(function, payload)
        except DatabaseUnavailableError:
            if time.monotonic() > give_up_at:
                raise
            event("job.database_away", level=logging.WARNING, function=function)
        await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
        tries += 1
        payload = {**payload, "again": True}
