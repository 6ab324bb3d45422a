"""Asking the database for holds and leases, once for all who ask at the same time.

A call that fits a lease of this process is served on the spot. The others queue; one task per
event loop and queue asks for everybody that waits, so that a burst of calls is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4
from weakref import WeakKeyDictionary

from ..database import Database
from ..errors import DatabaseError, DatabaseUnavailableError, SchemaError, SpoolError
from .leases import EVERYTHING, USABLE_S, Attempt, Key, Lease, Leases, boot_clock, floor_nano
from .models import Limit, unsent
from .spool import Row, Spool

GROUP = 200
"""How many calls are asked for in one transaction."""
GATHER_S = 0.01
"""How long intents that go to the database are gathered; a disk needs no gathering."""
PATIENCE_S = 1.0
"""How long a refused call waits for leases that are called back."""
POLL_S = 0.1
HOLD_MARGIN_S = 60.0
"""How long a hold or a lease outlives its calls' deadline before it is charged as estimated."""
PER_CALL = {"user"}
"""Scopes of which there are too many for a lease each."""

Answer = dict[str, Any]


class Book(Protocol):
    """What grants are kept in: the part of `Ledger` that is used here."""

    leases: Leases
    instance: str

    @property
    def spool(self) -> Spool:
        """Where leases are written down before they are asked for."""
        ...

    def record_unsent(self, row: Row, db: Database, *, spooled: bool = True) -> None:
        """Record that a call was not sent, which takes its hold down."""
        ...

    def start_drain(self, db: Database) -> None:
        """Look after leases in the background."""
        ...

    @property
    def owes(self) -> bool:
        """Whether the database lacks anything that only this process can tell it."""
        ...

    async def try_flush(self, db: Database, *, give_back: bool = False) -> bool:
        """Tell the database; tell whether it went well."""
        ...


@dataclass(slots=True, eq=False)
class Ask:
    """A call that wants money.

    Attributes:
        row: the ledger row as it stands if nothing more is heard of the call.
        bound_nano: None where no limit applies and the price is unknown.
        hold_id: one for all repetitions of the question.
    """

    row: Row
    limits: tuple[Limit, ...]
    bound_nano: int | None
    timeout_s: float
    hold_id: str = field(default_factory=lambda: str(uuid4()))
    is_patient: bool = True

    @property
    def key(self) -> Key:
        """What leases it can be served from."""
        return self.row["project"], self.limits

    @property
    def attempt(self) -> Attempt:
        """Which attempt it is."""
        return self.row["operation_id"], self.row["attempt_no"]

    def payload(self) -> Row:
        """Return it as `llm_reserve` takes it."""
        return {
            "hold_id": self.hold_id,
            "project": self.row["project"],
            "bound_nano": self.bound_nano,
            "ttl_s": self.timeout_s + HOLD_MARGIN_S,
            "limits": [limit.payload() for limit in self.limits],
            "row": self.row,
            "patient": self.is_patient,
        }


_Waiting = tuple[Ask, "asyncio.Future[Answer]"]
_Queues = dict[Any, list[_Waiting]]


class Grants:
    """Holds and leases for the calls of this process on one database."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._leases = book.leases
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queues] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, db: Database, ask: Ask, *, commit: bool = False) -> Answer:
        """Return the grant of a call, or its refusal once nothing can be called back.

        Args:
            commit: write the call into the ledger, as estimated, in the same transaction.

        Raises:
            DatabaseError: the budget can't be checked, or the call can't be written.
        """
        deadline, has_flushed = boot_clock() + PATIENCE_S, False
        while True:
            now = boot_clock()
            if not commit and (answer := self._serve(ask, now)):
                return answer
            ask.is_patient = now < deadline
            answer = await self._queue(db, ask, commit)
            if answer["granted"]:
                return answer
            if answer.get("recalling"):
                await asyncio.sleep(POLL_S)
            elif self._book.owes and not has_flushed:
                # What this process has settled or leased must refuse none of its own calls.
                await self._book.try_flush(db, give_back=True)
                ask.hold_id, has_flushed = str(uuid4()), True
            else:
                return answer

    def _serve(self, ask: Ask, now: float) -> Answer | None:
        bound = ask.bound_nano or 0
        lease = self._leases.serve(ask.key, ask.attempt, bound, ask.timeout_s, now)
        return lease and {"granted": True, "lease_id": lease.id, "accounted_on": lease.day}

    async def _queue(self, db: Database, ask: Ask, commit: bool) -> Answer:
        loop = asyncio.get_running_loop()
        queues = self._queues.setdefault(loop, {})
        name = (db.identity, ask.row["project"]) if commit else ask.key
        future: asyncio.Future[Answer] = loop.create_future()
        if name in queues:
            queues[name].append((ask, future))
        else:
            queues[name] = [(ask, future)]
            task = loop.create_task(self._work(db, queues, name, commit))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._take_back(db, ask, future.result(), commit)
            raise

    async def _work(self, db: Database, queues: _Queues, name: Any, commit: bool) -> None:
        """Ask for everybody in a queue until it is empty."""
        queue = queues[name]
        try:
            while queue:
                if commit:
                    await asyncio.sleep(GATHER_S)
                batch = queue[:GROUP]
                del queue[:GROUP]
                await self._answer(db, batch, commit)
        finally:
            del queues[name]
            for _, future in queue:
                future.cancel()

    async def _answer(self, db: Database, batch: Sequence[_Waiting], commit: bool) -> None:
        waiting: list[_Waiting] = []
        for ask, future in batch:
            if future.done():
                continue
            if not commit and (answer := self._serve(ask, boot_clock())):
                future.set_result(answer)
            else:
                waiting.append((ask, future))
        if not waiting:
            return
        try:
            await self._ask(db, waiting, commit)
        except BaseException as error:
            if len(waiting) > 1 and _may_be_of_one(error):
                for each in waiting:
                    await self._answer(db, [each], commit)
                return
            self._fail(db, waiting, error, commit)
            if not isinstance(error, Exception):
                raise

    async def _ask(self, db: Database, waiting: Sequence[_Waiting], commit: bool) -> None:
        asks = [ask for ask, _ in waiting]
        answers = await (self._intend(db, asks) if commit else self._reserve(db, asks))
        for (ask, future), answer in zip(waiting, answers, strict=True):
            if future.done():
                self._take_back(db, ask, answer, commit)
            else:
                future.set_result(answer)

    def _fail(
        self, db: Database, waiting: Sequence[_Waiting], error: BaseException, commit: bool
    ) -> None:
        """The answers are lost, the holds may stand: rows of no cost take them down."""
        status = "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
        for ask, future in waiting:
            row = {**ask.row, **unsent(status, type(error).__name__)}
            self._book.record_unsent(row, db, spooled=not commit)
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif not future.done():
                future.set_exception(error)

    def _take_back(self, db: Database, ask: Ask, answer: Answer, commit: bool) -> None:
        """Undo a grant that nobody waits for any more."""
        self._leases.settle(ask.attempt, 0, boot_clock())
        if answer["granted"] and "lease_id" not in answer:
            row = {**ask.row, **unsent("cancelled", "CancelledError")}
            self._book.record_unsent(row, db, spooled=not commit)

    async def _reserve(self, db: Database, asks: Sequence[Ask]) -> list[Answer]:
        """Ask for a lease that serves all, and for holds of those that it does not."""
        key, longest_s = asks[0].key, max(ask.timeout_s for ask in asks)
        said = self._leases.statements(self._book.instance, key[0])
        payload: Row = {"requests": [ask.payload() for ask in asks], "leases": said}
        asked = boot_clock()
        wanted = self._wanted(asks, asked, longest_s)
        if wanted is not None:
            payload["lease"] = wanted
        try:
            answer = await db.call("llm_reserve", payload)
        except BaseException:
            if wanted is not None:
                self._leases.add(_unseen(wanted["lease_id"], key))
                self._book.start_drain(db)
            raise
        if granted := answer.get("lease"):
            self._leases.add(_granted(granted, key, asked, longest_s))
            self._book.start_drain(db)
        elif wanted is not None:
            self._book.spool.acknowledged([{"lease": wanted["lease_id"]}])
        self._leases.heard(said, answer.get("leases", []))
        return self._begun(asks, answer, asked)

    def _begun(self, asks: Sequence[Ask], answer: Answer, now: float) -> list[Answer]:
        for ask, result in zip(asks, answer["results"], strict=True):
            if result["granted"]:
                lease, bound = result.get("lease_id"), ask.bound_nano or 0
                self._leases.begin(ask.key, ask.attempt, bound, lease, now)
                if lease:
                    result["used"] = answer["lease"]["used"]
        return answer["results"]

    def _wanted(self, asks: Sequence[Ask], now: float, longest_s: float) -> Row | None:
        """Describe the lease to ask for; None if there can be none, or if none is worth it."""
        project, limits = asks[0].key
        bounds = [ask.bound_nano or 0 for ask in asks]
        wish = self._leases.wish(asks[0].key, bounds, now)
        floor = floor_nano(bounds)
        if any(limit.scope in PER_CALL for limit in limits) or wish < floor:
            return None
        lease_id = str(uuid4())
        try:
            self._book.spool.append("l", {"lease": lease_id, "project": project})
        except SpoolError:
            return None
        return {
            "lease_id": lease_id,
            "owner": self._book.instance,
            "wish_nano": wish,
            "floor_nano": floor,
            "use_s": USABLE_S,
            "ttl_s": USABLE_S + longest_s + HOLD_MARGIN_S,
        }

    async def _intend(self, db: Database, asks: Sequence[Ask]) -> list[Answer]:
        """Write calls into the ledger as estimated, those with limits if they fit."""
        limited = [ask for ask in asks if ask.limits]
        free = [ask.row for ask in asks if not ask.limits]
        payload = {"requests": [ask.payload() for ask in limited], "rows": free}
        results = iter((await db.call("llm_intend", payload))["results"])
        return [next(results) if ask.limits else {"granted": True} for ask in asks]


def _may_be_of_one(error: BaseException) -> bool:
    """Tell whether one call of a group may be to blame for an error."""
    everybodys = DatabaseUnavailableError | SchemaError
    return isinstance(error, DatabaseError) and not isinstance(error, everybodys)


def _granted(answer: Answer, key: Key, asked: float, longest_s: float) -> Lease:
    return Lease(
        id=answer["lease_id"],
        key=key,
        granted=answer["granted_nano"],
        day=answer["accounted_on"],
        ends=asked + float(answer["lasts_s"]),
        longest_s=longest_s,
        last_served=asked,
    )


def _unseen(lease_id: str, key: Key) -> Lease:
    """A lease that may have been granted: all of it is given back."""
    return Lease(lease_id, key, EVERYTHING, "", 0.0, 0.0, 0.0, is_open=False)
