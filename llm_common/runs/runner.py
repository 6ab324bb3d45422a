"""The runner: works on the units of a job, so many at a time, until nothing is left.

Any number of processes may work on the same job. Each claims units in small batches, keeps as
many under way as it has slots, and writes their steps in groups.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from ..context import labels, refuse_in_shadow
from ..cost_tracker import Limit, flush_quietly, owner_of
from ..database import Database
from ..errors import DatabaseError, FencedError, JobStateError
from ..telemetry import event
from .canonical import encoded, plain
from .jobs import JobRecord, find_job
from .liveness import BEAT_S, beat, dead_owners, reap, unknown_units
from .outcomes import FAULTS, Outcome, message_of, outcome_of
from .pipeline import CommitHook, Ended, Pipeline
from .progress import JobProgress, progress
from .unit_run import UnitRun
from .writer import GroupWriter, insistently

IDLE_S = 0.5
"""How often a process that has nothing to do asks whether others have left something."""

GRACE_S = 5.0
"""How long units under way may go on when this process is told to stop."""

_held: dict[str, list[set[str]]] = {}
"""Units that this process has in its hands, by job, of each `work` on it."""


async def work(
    db: Database,
    project: str,
    job_id: str,
    pipeline: Pipeline,
    *,
    slots: int = 50,
    ahead: int | None = None,
    on_commit: CommitHook | None = None,
    stop: asyncio.Event | None = None,
    leave: asyncio.Event | None = None,
) -> JobProgress:
    """Work on a job until it is over, or paused; return how far it is then.

    Others may work on it at the same time. Cancelling this leaves what is under way to whoever
    goes on; what is done is stored.

    Args:
        slots: units that are under way at a time.
        ahead: units that are claimed before there is a slot for them; by default as many as slots.
        stop: once set, nothing more is begun; what is under way may go on for `GRACE_S`.
        leave: once set, nothing more is begun; what is under way goes on to its end.

    Raises:
        InvalidInputError: the project has no such job.
        JobStateError: the job is for a newer version of the pipeline, or for another one.
        DatabaseError: the database refused, or was away for minutes.
    """
    refuse_in_shadow("working on a job")
    job = await find_job(db, project, job_id)
    if job.pipeline != pipeline.name or job.version > pipeline.version:
        raise JobStateError(
            f"job {job_id} is for {job.pipeline} {job.version}, "
            f"this is {pipeline.name} {pipeline.version}"
        )
    room = slots, slots if ahead is None else ahead
    told = stop or asyncio.Event(), leave or asyncio.Event()
    await _Work(db, project, job, pipeline, room=room, hook=on_commit, told=told).run()
    await flush_quietly(db)
    return await progress(db, project, job_id)


def held_units(job_id: str) -> set[str]:
    """Return the units of a job that this process works on."""
    return set[str]().union(*_held.get(job_id, ()))


class _Work:
    def __init__(
        self,
        db: Database,
        project: str,
        job: JobRecord,
        pipeline: Pipeline,
        *,
        room: tuple[int, int],
        hook: CommitHook | None,
        told: tuple[asyncio.Event, asyncio.Event],
    ) -> None:
        self._db = db
        self._where = {"job_id": job.job_id, "project": project}
        self._job = job
        self._pipeline = pipeline
        self._slots, self._ahead = room
        self._stopping, self._leaving = told
        self._owner = owner_of(db)
        self._writer = GroupWriter(db, self._owner)
        self._held = set[str]()
        self._ready: deque[Mapping[str, Any]] = deque()
        self._tasks: dict[asyncio.Task[None], Mapping[str, Any]] = {}
        self._changed = asyncio.Event()
        self._status = "running"
        self._suspected: set[str] = set()
        self._ask_at = 0.0
        self._hook = hook
        self._told: deque[Ended] = deque()
        self._error: BaseException | None = None

    async def run(self) -> None:
        began = await insistently(self._db, "llm_job_begin", self._where)
        self._status = began["status"]
        _held.setdefault(self._job.job_id, []).append(self._held)
        await self._beat()
        heard = (self._beats(), self._hear(self._stopping), self._hear(self._leaving))
        helpers = [asyncio.create_task(one) for one in heard]
        if self._hook:
            helpers.append(asyncio.create_task(self._tell(self._hook)))
        try:
            await self._loop()
        finally:
            await self._stop()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            while self._hook and self._told and self._error is None:
                await self._hook.call(self._next_told(self._hook.every))
        if self._error:
            raise self._error

    async def _loop(self) -> None:
        """Keep the slots full while the job is running."""
        while self._error is None:
            self._fill()
            if not self._goes_on:
                return await self._wind_down()
            room = self._slots + self._ahead - len(self._tasks) - len(self._ready)
            is_time = time.monotonic() >= self._ask_at or not self._tasks
            if len(self._ready) <= self._ahead // 2 and room and is_time:
                answer = await self._claim(room)
                if answer["units"]:
                    continue
                # Nothing to claim: the end of each unit is no reason to ask again.
                self._ask_at = time.monotonic() + self._idle_s(answer)
                if not self._tasks and self._writer.is_busy:
                    await self._writer.flush()
                    continue
                if not (self._tasks or answer["open"]):
                    settled = await insistently(self._db, "llm_job_settle", self._where)
                    self._status = settled["status"]
                    if self._status == "running":
                        continue
                    return None
                await self._wait(self._idle_s(answer))
            else:
                left_s = self._ask_at - time.monotonic()
                await self._wait(left_s if left_s > 0 else BEAT_S)
        return None

    @property
    def _goes_on(self) -> bool:
        is_told = self._stopping.is_set() or self._leaving.is_set()
        return self._status == "running" and not is_told

    def _idle_s(self, answer: Mapping[str, Any]) -> float:
        wait_s = answer.get("wait_s")
        return IDLE_S if wait_s is None else min(max(wait_s, 0.01), IDLE_S)

    async def _wait(self, timeout_s: float) -> None:
        """Wait until a unit ends, or somebody tells the job something."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _claim(self, number: int) -> Mapping[str, Any]:
        asked = {
            **self._where,
            "owner": self._owner,
            "claim_id": str(uuid4()),
            "limit": number,
            "again": False,
        }
        answer = await insistently(self._db, "llm_units_claim", asked)
        if answer["status"] != "running":
            self._status = answer["status"]
        for unit in answer["units"]:
            self._held.add(unit["run_id"])
            self._ready.append(unit)
        self._fill()
        return answer

    def _fill(self) -> None:
        """Begin what is ready, as far as there are slots."""
        if not self._goes_on:
            return
        while self._ready and len(self._tasks) < self._slots:
            unit = self._ready.popleft()
            task = asyncio.create_task(self._work_on(unit))
            self._tasks[task] = unit
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
        self._fill()
        self._changed.set()

    async def _work_on(self, unit: Mapping[str, Any]) -> None:
        """Do one unit; whatever becomes of it is written down."""
        run = UnitRun(self._db, unit, self._owner, self._writer)
        budget = self._job.budget_usd
        limits = () if budget is None else (Limit("job", self._job.job_id, "total", budget),)
        try:
            with labels(run_id=run.id, limits=limits, **self._where):
                output = plain(await self._pipeline.unit(run, unit["input"]))
        except FencedError:
            event("unit.fenced", level=logging.WARNING, job=self._job.job_id, run=run.id)
            self._held.discard(run.id)
        except asyncio.CancelledError:
            self._end(unit, self._stopped())
            raise
        except Exception as error:  # noqa: BLE001 - it is the unit's outcome, and the job goes on
            self._end(unit, self._failure(run, error))
        else:
            done = _over(Outcome.DONE, "completed")
            more = {"output": output, "versions": dict(self._pipeline.steps)}
            self._end(unit, {**done, **more}, len(encoded(output)))

    def _failure(self, run: UnitRun, error: Exception) -> dict[str, Any]:
        outcome = outcome_of(error)
        wait_s = self._pipeline.retries.wait_s(error, run.tries)
        ids: dict[str, object] = {"job": self._job.job_id, "run": run.id, "unit": run.unit_key}
        name = "unit.failed" if wait_s is None else "unit.retried"
        kind = type(error).__name__
        event(name, level=logging.WARNING, outcome=outcome.value, error=kind, **ids)
        about = {"error_class": kind, "error_message": message_of(error)}
        over = _over(outcome, "failed" if wait_s is None else "queued")
        return {**over, **about, "wait_s": wait_s}

    def _end(self, unit: Mapping[str, Any], end: dict[str, Any], size: int = 0) -> None:
        """Write down how a unit ended; it is in this process's hands until that is durable."""
        run_id = unit["run_id"]
        named = {"run_id": run_id, "fence": unit["fence"], **end}
        written = self._writer.put("ends", named, size)

        def is_durable(future: asyncio.Future[Any]) -> None:
            self._held.discard(run_id)
            if future.cancelled() or future.exception() or end["status"] == "queued":
                return
            ended = Ended(run_id, unit["unit_key"], end["status"], Outcome(end["outcome"]))
            who = self._owner
            event("unit.ended", run=run_id, unit=ended.unit_key, outcome=ended.outcome, worker=who)
            if self._hook:
                self._told.append(ended)

        written.add_done_callback(is_durable)

    async def _hear(self, told: asyncio.Event) -> None:
        await told.wait()
        self._changed.set()

    async def _wind_down(self) -> None:
        """Finish what is under way, within limits if this process stops; stop what is cancelled."""
        self._give_back_ready()
        give_up_at: float | None = None
        while self._tasks and self._error is None:
            if self._stopping.is_set():
                give_up_at = give_up_at or time.monotonic() + GRACE_S
                if time.monotonic() > give_up_at:
                    return
            if self._status == "cancelled":
                for task in self._tasks:
                    task.cancel()
            await self._wait(BEAT_S)

    def _give_back_ready(self) -> None:
        while self._ready:
            self._end(self._ready.popleft(), self._stopped())

    def _stopped(self) -> dict[str, Any]:
        """How a unit ends that is not done: back in the queue untried, unless its job is over."""
        if self._status == "cancelled":
            return _over(Outcome.CANCELLED, "cancelled")
        return {"status": "queued", "outcome": None}

    async def _stop(self) -> None:
        """Give back what is still in hand."""
        self._give_back_ready()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._give_back_ready()
        try:
            await asyncio.shield(self._writer.flush())
        finally:
            # What could not be given back is nobody's now: a later look finds it.
            _held[self._job.job_id].remove(self._held)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._beat()
            except DatabaseError as error:
                event("job.no_beat", level=logging.WARNING, error=type(error).__name__)

    async def _beat(self) -> None:
        """Show life, hear what the job is told, and queue again what dead processes held."""
        version = f"{self._pipeline.name} {self._pipeline.version}"
        shown = {"owner": self._owner, "slots": self._slots, "version": version}
        job = await beat(self._db, self._where, shown)
        if job["status"] != self._status:
            self._status = job["status"]
            self._changed.set()
        # A claim whose answer is on its way is not lost: twice unknown is.
        unknown = unknown_units(job, self._owner, held_units(self._job.job_id))
        lost, self._suspected = unknown & self._suspected, unknown
        dead = dead_owners(self._db, job, self._owner)
        if dead or lost:
            reaped = await reap(self._db, self._where, dead, sorted(lost))
            event(
                "units.reaped",
                level=logging.WARNING,
                job=self._job.job_id,
                requeued=reaped["requeued"],
            )
            self._changed.set()

    def _next_told(self, most: int) -> list[Ended]:
        return [self._told.popleft() for _ in range(min(most, len(self._told)))]

    async def _tell(self, hook: CommitHook) -> None:
        """Call the host after every so many units."""
        try:
            while True:
                if len(self._told) < hook.every:
                    await asyncio.sleep(0.05)
                    continue
                await hook.call(self._next_told(hook.every))
        except Exception as error:  # noqa: BLE001 - it is raised where the job is worked on
            self._error = error
            self._changed.set()


def _over(outcome: Outcome, status: str) -> dict[str, Any]:
    return {"status": status, "outcome": outcome, "fault": FAULTS[outcome]}
