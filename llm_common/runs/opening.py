"""Opening a run: across processes one unit is one row, and one living process is at it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace as changed
from typing import Any
from uuid import uuid4

from ..context import is_shadow, labels, note_run
from ..cost_tracker import is_owner_alive, owner_of
from ..database import Database
from ..errors import FencedError, InvalidInputError, LLMCommonError, RunBusyError
from .canonical import digest, plain
from .run import Replay, Run, Unit, note

STALE_AFTER_S = 900.0
"""Silence after which an owner on another machine is given up; on this one its lock tells."""


@asynccontextmanager
async def open_run(db: Database, unit: Unit, replay: Replay | None = None) -> AsyncGenerator[Run]:
    """Start a unit's run, or take up the one there is: across processes, one unit is one row.

    A block that ends well completes the run, unless it has set another status itself. One that
    ends in an error leaves it ``failed`` (``cancelled`` when it was cancelled) with the error's
    class; the next `open_run` of the unit goes on where it stopped. In a shadow execution nothing
    is looked up or stored: every step is executed.

    Raises:
        RunBusyError: a living process is at it.
        InvalidInputError: the unit has no key, or there is no such run to replay.
        SchemaError: the database is not migrated.
    """
    if not unit.unit_key:
        raise InvalidInputError("a run needs the key of its unit, such as a bill's id")
    if is_shadow():
        run = _ShadowRun(db, owner_of(db))
        with labels(run_id=run.id, project=unit.project, job_id=unit.job_id):
            yield run
        return
    replay = await _found(db, unit.project, replay or Replay())
    with _at_work(db, unit, replay) as others:
        run = Run(db, await _start(db, unit, replay, others), owner_of(db), replay)
        note_run(run.id)
        with labels(run_id=run.id, project=unit.project, job_id=unit.job_id):
            try:
                yield run
            except BaseException as error:
                if not run.is_finished and not isinstance(error, FencedError):
                    await note(run.finish(**_ending(error)))
                raise
            if not run.is_finished:
                await run.finish("completed")


class _ShadowRun(Run):
    """A run of a shadow execution: it leaves no row behind, only what it cost."""

    def __init__(self, db: Database, owner: str) -> None:
        answer = {"run_id": str(uuid4()), "status": "running", "fence": 0, "analysis_json": None}
        super().__init__(db, answer, owner, Replay())

    async def _call(self, function: str, payload: Mapping[str, Any]) -> Any:  # noqa: ARG002
        return {"found": False, "output": payload.get("output")}


async def find_runs(db: Database, project: str, **wanted: str | int | None) -> list[dict[str, Any]]:
    """Return stored runs with their steps and costs, newest first.

    Args:
        wanted: any of `run_id` (or its first characters), `job_id`, `pipeline`, `unit_key`,
            `input_hash` and `limit` (50).
    """
    return (await db.call("llm_runs", {"project": project, **wanted}))["runs"]


async def find_completed(db: Database, unit: Unit) -> dict[str, Any] | None:
    """Return the completed run of a unit with the same inputs, if there is one."""
    same = {"pipeline": unit.pipeline, "unit_key": unit.unit_key}
    runs = await find_runs(db, unit.project, **same, input_hash=_identity(unit, Replay()))
    return next((run for run in runs if run["status"] == "completed"), None)


async def _found(db: Database, project: str, replay: Replay) -> Replay:
    """Look up the run to replay: without it, every step would be paid for anew."""
    if replay.from_run is None:
        return replay
    runs = await find_runs(db, project, run_id=replay.from_run)
    if len(runs) != 1:
        raise InvalidInputError(
            f"{len(runs)} runs of project {project} begin with {replay.from_run!r}: "
            "name one run to replay"
        )
    return changed(replay, from_run=runs[0]["id"])


_working: Counter[tuple[str, ...]] = Counter()
_working_guard = threading.Lock()


@contextmanager
def _at_work(db: Database, unit: Unit, replay: Replay) -> Generator[Callable[[], bool]]:
    """Count who is at a run in this process; yield whether others are, too.

    A run that names this process as its owner, though nobody here is at it, is one whose end
    could not be written down. No other process would ever take it over.
    """
    key = (db.identity, unit.project, unit.pipeline, unit.unit_key, _identity(unit, replay))
    with _working_guard:
        _working[key] += 1
    try:
        yield lambda: _working[key] > 1
    finally:
        with _working_guard:
            _working[key] -= 1
            if not _working[key]:
                del _working[key]


def _ending(error: BaseException) -> dict[str, Any]:
    """Name an error in the run's row; only messages of our own are kept, which hold no secrets."""
    cancelled = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))
    return {
        "status": "cancelled" if cancelled else "failed",
        "error_class": type(error).__name__,
        "error_message": str(error) if isinstance(error, LLMCommonError) else None,
    }


def _identity(unit: Unit, replay: Replay) -> str:
    return digest([unit.inputs, replay.from_run, sorted(replay.fresh)])


async def _start(
    db: Database, unit: Unit, replay: Replay, others: Callable[[], bool]
) -> dict[str, Any]:
    """Open the run; take it over from an owner that is dead."""
    payload = {
        "run_id": str(uuid4()),
        "project": unit.project,
        "pipeline": unit.pipeline,
        "unit_key": unit.unit_key,
        "input_hash": _identity(unit, replay),
        "job_id": unit.job_id,
        "options": {"replay_from": replay.from_run, "fresh": sorted(replay.fresh)},
        "owner": owner_of(db),
        "stale_after_s": STALE_AFTER_S,
        "columns": plain(unit.columns),
    }
    answer = await db.call("llm_run_start", payload)
    if answer.get("busy") and _is_given_up(db, answer, others):
        answer = await db.call("llm_run_start", {**payload, "take_over": answer["owner"]})
    if answer.get("busy"):
        raise RunBusyError(
            f"run {answer['run_id']} of {unit.unit_key} is being worked on by another process",
            run_id=answer["run_id"],
        )
    return answer


def _is_given_up(db: Database, busy: dict[str, Any], others: Callable[[], bool]) -> bool:
    """Tell whether nobody is at a run that has an owner."""
    if busy["owner"] == owner_of(db):
        return not others()
    alive = is_owner_alive(db, busy["owner"])
    return bool(busy["stale"]) if alive is None else not alive
