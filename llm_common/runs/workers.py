"""Workers: any number of processes and machines at the jobs of a project, over one Postgres."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .. import settings
from ..cost_tracker import flush_quietly, owner_of
from ..database import Database, connect, direct_url
from ..errors import DatabaseError, InvalidInputError, JobStateError
from ..telemetry import event
from .jobs import JobRecord, NewJob, NewUnit, check_schema, create_job, find_job
from .liveness import BEAT_S, beat_everywhere, dead_owners, reap, unknown_units
from .pipeline import Pipeline
from .runner import held_units, work
from .tickets import (
    HEARTBEAT_S,
    STALLED_S,
    TASK,
    Tickets,
    open_tickets,
    queue_of,
    queues_of,
    require,
)

PAUSE_S = 2.0
"""After a failure of the worker's own, such as a database that is away."""
REAP_TICKETS_S = 10.0


@dataclass(frozen=True, slots=True)
class Slots:
    """How much one process does at a time.

    Attributes:
        at_once: units that are under way.
        ahead: units that are claimed before there is a slot for them; by default as many.
        turn_s: seconds that it stays at a job while nobody is at another one.
    """

    at_once: int = 50
    ahead: int | None = None
    turn_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The job that a process is at.

    Attributes:
        leave: set, it lets what is under way end and goes to another job.
    """

    job_id: str
    since: float = field(default_factory=time.monotonic)
    leave: asyncio.Event = field(default_factory=asyncio.Event)


async def submit(
    db: str | None, project: str, job: NewJob, units: Iterable[NewUnit]
) -> tuple[JobRecord, bool]:
    """Make a job, as `create_job` does, and let workers begin it.

    Args:
        db: a direct Postgres URL or ``embedded``; None means `DATABASE_URL`.

    Raises:
        InvalidInputError: the id belongs to another project, or the key to another request.
        MissingExtraError: the extra `workers` is not installed.
        DatabaseError: the database refused, or can't be reached.
    """
    url = await direct_url(db)
    database = connect(url)
    made, is_new = await create_job(database, project, job, units)
    await enqueue(url, project, made.job_id)
    return await find_job(database, project, made.job_id), is_new


async def enqueue(db: str | None, project: str, job_id: str) -> None:
    """Let workers begin a job, or go on with one that was resumed or has units queued again.

    A job that is paused, over or not wholly stored is left as it is.

    Args:
        db: a direct Postgres URL or ``embedded``; None means `DATABASE_URL`.

    Raises:
        InvalidInputError: the project has no such job.
        MissingExtraError: the extra `workers` is not installed.
        DatabaseError: the database refused, or can't be reached.
    """
    require()
    url = await direct_url(db)
    database = connect(url)
    job = await find_job(database, project, job_id)
    # Once it runs, every worker sees to it that there is a ticket, should this one be lost.
    began = await database.call("llm_job_begin", {"project": project, "job_id": job_id})
    if began["status"] == "running":
        async with open_tickets(url, _schema()) as tickets:
            await tickets.leave(project, job_id, queue_of(project, job.pipeline, job.version))


async def serve(
    db: str | None,
    project: str,
    pipelines: Sequence[Pipeline],
    *,
    slots: Slots | None = None,
    once: bool = False,
    stop: asyncio.Event | None = None,
) -> None:
    """Work on the jobs of some pipelines as one process of many, until told to stop.

    A process is at one job at a time, with all its slots; idle ones join it. While nobody is at
    another job, one of those at this one goes there after `Slots.turn_s`, once what it has under
    way has ended. Jobs of a newer version than the pipeline's are left to newer code.

    Args:
        db: a direct Postgres URL or ``embedded``; None means `DATABASE_URL`.
        once: return when no job of these pipelines is left that runs.
        stop: once set, nothing more is begun, and units under way have some seconds to end.

    Raises:
        InvalidInputError: no pipeline, or two of one name.
        MissingExtraError: the extra `workers` is not installed.
        DatabaseError: the database refused, or can't be reached when the worker starts.
    """
    served = {one.name: one for one in pipelines}
    if not served or len(served) < len(pipelines):
        raise InvalidInputError("a worker needs pipelines, each with a name of its own")
    url = await direct_url(db)
    database = connect(url)
    await check_schema(database)
    async with open_tickets(url, _schema()) as tickets:
        stop = stop or asyncio.Event()
        worker = _Worker(database, project, served, tickets, slots=slots or Slots(), stop=stop)
        await worker.run(once=once)
    await flush_quietly(database)


def _schema() -> str:
    return settings.setting("schema").value or "public"


class _Worker:
    def __init__(
        self,
        db: Database,
        project: str,
        served: Mapping[str, Pipeline],
        tickets: Tickets,
        *,
        slots: Slots,
        stop: asyncio.Event,
    ) -> None:
        self._db = db
        self._project = project
        self._served = served
        self._tickets = tickets
        self._slots = slots
        self._stopping = stop
        self._suspected: set[str] = set()
        self._turn: Turn | None = None
        self._left_job: str | None = None

    async def run(self, *, once: bool) -> None:
        self._tickets.app.task(name=TASK)(self._take)
        event("worker.started", worker=owner_of(self._db), project=self._project)
        around = asyncio.create_task(self._look_around_for_ever())
        try:
            while not self._stopping.is_set():
                await self._listen(wait=not once)
                if once and not await self._left():
                    break
        finally:
            around.cancel()
            await asyncio.gather(around, return_exceptions=True)
            event("worker.stopped", worker=owner_of(self._db), project=self._project)

    async def _left(self) -> bool:
        """Whether a job of ours still runs; each has a ticket then."""
        try:
            return bool(await self._look_around())
        except DatabaseError:
            return True

    async def _listen(self, *, wait: bool) -> None:
        """Take tickets until told to stop, or procrastinate has lost the database."""
        served = [(name, pipeline.version) for name, pipeline in self._served.items()]
        listening = asyncio.create_task(
            self._tickets.app.run_worker_async(
                queues=queues_of(self._project, served),
                concurrency=1,
                wait=wait,
                delete_jobs="always",
                install_signal_handlers=False,
                update_heartbeat_interval=HEARTBEAT_S,
                stalled_worker_timeout=STALLED_S,
            )
        )
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            # Cancelling asks it to stop: it waits for the ticket that it is at.
            listening.cancel()
            await listening
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, this worker begins anew
            await self._pause("worker.lost_tickets", error)
        finally:
            stopping.cancel()

    async def _take(self, project: str, job_id: str) -> None:
        """Do what a ticket says: leave the next one, and work until the job is over or paused."""
        try:
            job = await find_job(self._db, project, job_id)
            pipeline = self._served.get(job.pipeline)
            if job.status != "running" or pipeline is None or self._stopping.is_set():
                return
            await self._leave_ticket(job_id, job.pipeline, job.version)
            left, self._left_job = self._left_job, None
            if left == job_id:
                return  # its next ticket is behind those of the others now
            await self._work(project, job_id, pipeline)
        except (InvalidInputError, JobStateError) as error:
            event("worker.refused", level=logging.WARNING, job=job_id, error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the next ticket tries again
            await self._pause("worker.failed", error, job=job_id)

    async def _work(self, project: str, job_id: str, pipeline: Pipeline) -> None:
        turn = self._turn = Turn(job_id)
        try:
            await work(
                self._db,
                project,
                job_id,
                pipeline,
                slots=self._slots.at_once,
                ahead=self._slots.ahead,
                stop=self._stopping,
                leave=turn.leave,
            )
        finally:
            self._turn = None
            self._left_job = job_id if turn.leave.is_set() else None

    async def _pause(self, name: str, error: Exception, **ids: object) -> None:
        event(name, level=logging.ERROR, error=type(error).__name__, **ids)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), PAUSE_S)

    async def _leave_ticket(self, job_id: str, pipeline: str, version: int) -> None:
        queue = queue_of(self._project, pipeline, version)
        await self._tickets.leave(self._project, job_id, queue)

    async def _look_around_for_ever(self) -> None:
        """See to units and tickets of the dead; a plain loop, which nothing else depends on."""
        rounds = 0
        while True:
            try:
                await self._look_around()
                if rounds % int(REAP_TICKETS_S / BEAT_S) == 0:
                    await self._tickets.reap()
            except Exception as error:  # noqa: BLE001 - the next round tries again
                event("worker.blind", level=logging.WARNING, error=type(error).__name__)
            rounds += 1
            await asyncio.sleep(BEAT_S)

    async def _look_around(self) -> list[str]:
        """Queue again what the dead held, in any job; return the jobs of ours that run.

        Each of those has a ticket afterwards.
        """
        owner = owner_of(self._db)
        versions = " ".join(f"{name} {one.version}" for name, one in self._served.items())
        shown = {"owner": owner, "slots": self._slots.at_once, "version": versions}
        jobs = await beat_everywhere(self._db, self._project, shown)
        for job in jobs:
            await self._reap(job, owner)
        ours = [job for job in jobs if job["status"] == "running" and self._is_ours(job)]
        if turn := self._turn:
            stayed_s = time.monotonic() - turn.since
            if is_turn_over(turn.job_id, stayed_s, self._slots.turn_s, owner, ours):
                turn.leave.set()
        waiting = await self._tickets.waiting() if ours else set[str | None]()
        for job in ours:
            if job["job_id"] not in waiting:
                await self._leave_ticket(job["job_id"], job["pipeline"], job["version"])
        return [job["job_id"] for job in ours]

    async def _reap(self, job: Mapping[str, Any], owner: str) -> None:
        job_id: str = job["job_id"]
        unknown = unknown_units(job, owner, held_units(job_id))
        lost = unknown & self._suspected
        self._suspected = (self._suspected - lost) | unknown
        dead = dead_owners(self._db, job, owner)
        if dead or lost:
            where = {"project": self._project, "job_id": job_id}
            reaped = await reap(self._db, where, dead, sorted(lost))
            event("units.reaped", level=logging.WARNING, job=job_id, **reaped)
            # What the dead have paid for reaches the ledger.
            await flush_quietly(self._db)

    def _is_ours(self, job: Mapping[str, Any]) -> bool:
        pipeline = self._served.get(job["pipeline"])
        return pipeline is not None and pipeline.version >= job["version"]


def is_turn_over(
    job_id: str, stayed_s: float, turn_s: float, owner: str, jobs: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether a process leaves its job: nobody is at another one. Pure.

    Of several processes at the same job the first by name leaves, so that not all do. One that has
    nothing in its hands, because others have the rest, leaves soon.

    Args:
        jobs: those that run and that it could work on, each with its `owners`.
    """
    owners = {job["job_id"]: [other["owner"] for other in job["owners"]] for job in jobs}
    own = owners.pop(job_id, [])
    if all(owners.values()):
        return False
    if owner not in own:
        return stayed_s > 2 * BEAT_S
    return stayed_s > turn_s and owner == min(own)
