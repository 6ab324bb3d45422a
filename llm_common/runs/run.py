"""A durable run: steps whose results are stored, looked up and never paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from ..context import labels
from ..cost_tracker import is_owner_alive, owner_of
from ..database import Database
from ..errors import (
    DuplicateStepError,
    FencedError,
    InvalidInputError,
    LLMCommonError,
    RunBusyError,
)
from .canonical import canonical, digest, plain

INLINE_BYTES = 64 * 1024
"""Outputs over this size go to the content-addressed table."""

STALE_AFTER_S = 900.0
"""Silence after which an owner on another machine is given up; on this one its lock tells."""

StepFunction = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Unit:
    """What a run is of: the same unit with the same inputs is the same run.

    Attributes:
        inputs: everything that the result depends on; its hash is part of the run's identity.
        columns: the columns of `pipeline_runs` that hosts query, such as `bill_id`.
    """

    project: str
    pipeline: str
    unit_key: str
    inputs: Mapping[str, Any]
    job_id: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict[str, str | None])


@dataclass(frozen=True, slots=True)
class Replay:
    """Which stored results a run takes.

    Attributes:
        from_run: take finished steps of this run, whatever their inputs were.
        fresh: names of the steps that are executed again although a result is stored.
    """

    from_run: str | None = None
    fresh: frozenset[str] = frozenset()


class Run:
    """One execution of a run; made by `open_run`.

    Attributes:
        id: the row in `pipeline_runs`.
        status: as it was when the run was opened; ``completed`` means there is nothing to do.
        stored: the analysis and review of a completed run.
        executed: step and key of what this execution really ran.
    """

    def __init__(self, db: Database, answer: Mapping[str, Any], owner: str, replay: Replay) -> None:
        self.id: str = answer["run_id"]
        self.status: str = answer["status"]
        self.stored: Any = answer["analysis_json"]
        self.executed: list[tuple[str, str]] = []
        self._db = db
        self._fence: int = answer["fence"]
        self._owner = owner
        self._replay = replay
        self._used: set[tuple[str, str]] = set()

    async def step(
        self,
        name: str,
        fn: StepFunction,
        inputs: Mapping[str, Any],
        *,
        key: str = "",
        version: int = 1,
        prompt_hash: str | None = None,
        model: str | None = None,
        max_age: timedelta | None = None,
    ) -> Any:
        """Return the stored result of a step or, if there is none, run ``fn(**inputs)``.

        The result is looked up by project, step, key, hash of the inputs and version, in this
        run and in earlier ones. What is returned is the stored JSON, the first time too.

        Args:
            name: the step; labels the ledger's rows.
            fn: an async function of the inputs; it returns what JSON can hold.
            key: tells steps of the same name apart within a run.
            version: of the function; a new one runs the step again, as does a new `prompt_hash`.
            max_age: a stored result older than this is not used.

        Raises:
            DuplicateStepError: this name and key were used before in this execution.
            FencedError: a successor took the run over.
        """
        if (name, key) in self._used:
            raise DuplicateStepError(
                f"step {name!r} with key {key!r} twice in one run", run_id=self.id
            )
        self._used.add((name, key))
        begun = await self._call(
            "llm_step_begin",
            {
                "step": name,
                "key": key,
                "input_hash": digest([inputs, prompt_hash]),
                "version": version,
                "owner": self._owner,
                "model": model,
                "max_age_s": max_age.total_seconds() if max_age else None,
                "fresh": name in self._replay.fresh,
                "from_run": self._replay.from_run,
            },
        )
        if begun["found"]:
            return begun["output"]
        self.executed.append((name, key))
        return await self._execute(name, key, fn, inputs)

    async def now(self, key: str = "") -> datetime:
        """Return the time, recorded: a resumed run sees the time of its first execution."""

        async def read() -> str:
            return datetime.now(UTC).isoformat()

        return datetime.fromisoformat(await self.step("now", read, {}, key=key))

    async def finish(self, status: str, **columns: Any) -> None:
        """Set the status and the result columns of the run."""
        await self._call("llm_run_finish", {"status": status, **plain(columns)})

    async def _execute(
        self, name: str, key: str, fn: StepFunction, inputs: Mapping[str, Any]
    ) -> Any:
        try:
            with labels(run_id=self.id, step=name):
                output = plain(await fn(**inputs))
        except BaseException as error:
            failed = {
                "step": name,
                "key": key,
                "state": "failed",
                "error_class": type(error).__name__,
            }
            # A cancelled task may still tell the database, once.
            await asyncio.shield(self._call("llm_step_finish", failed))
            raise
        text = canonical(output)
        large = digest(output) if len(text.encode()) > INLINE_BYTES else None
        done = {"step": name, "key": key, "state": "done", "output": output, "output_hash": large}
        return (await self._call("llm_step_finish", done))["output"]

    async def _call(self, function: str, payload: Mapping[str, Any]) -> Any:
        answer = await self._db.call(function, {"run_id": self.id, "fence": self._fence, **payload})
        if answer.get("fenced"):
            raise FencedError(f"run {self.id} was taken over by another worker", run_id=self.id)
        return answer


@asynccontextmanager
async def open_run(db: Database, unit: Unit, replay: Replay | None = None) -> AsyncGenerator[Run]:
    """Start a unit's run, or take up the one there is: across processes, one unit is one row.

    A block that ends in an error leaves the run ``failed`` (``cancelled`` when it was cancelled)
    with the error's class; the next `open_run` of the unit goes on where it stopped.

    Raises:
        RunBusyError: a living process is at it.
        SchemaError: the database is not migrated.
    """
    replay = replay or Replay()
    owner = owner_of(db)
    run = Run(db, await _start(db, unit, owner, replay), owner, replay)
    with labels(run_id=run.id, project=unit.project, job_id=unit.job_id):
        try:
            yield run
        except FencedError:
            raise
        except BaseException as error:
            if not getattr(error, "finished_run", False):
                await asyncio.shield(run.finish(**_ending(error)))
            raise


def _ending(error: BaseException) -> dict[str, Any]:
    """Name an error in the run's row; only messages of our own are kept, which hold no secrets."""
    cancelled = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt))
    return {
        "status": "cancelled" if cancelled else "failed",
        "error_class": type(error).__name__,
        "error_message": str(error) if isinstance(error, LLMCommonError) else None,
    }


async def find_runs(db: Database, project: str, **wanted: str | int | None) -> list[dict[str, Any]]:
    """Return stored runs with their steps and costs, newest first.

    Args:
        wanted: any of `run_id` (or its first characters), `job_id`, `pipeline`, `unit_key`,
            `input_hash` and `limit` (50).
    """
    return (await db.call("llm_runs", {"project": project, **wanted}))["runs"]


async def find_completed(db: Database, unit: Unit) -> dict[str, Any] | None:
    """Return the completed run of a unit with the same inputs, if there is one."""
    same = {"pipeline": unit.pipeline, "unit_key": unit.unit_key, "input_hash": _identity(unit)}
    runs = await find_runs(db, unit.project, **same)
    return next((run for run in runs if run["status"] == "completed"), None)


def _identity(unit: Unit, replay: Replay | None = None) -> str:
    replay = replay or Replay()
    return digest([unit.inputs, replay.from_run, sorted(replay.fresh)])


async def _start(db: Database, unit: Unit, owner: str, replay: Replay) -> dict[str, Any]:
    """Open the run; take it over from an owner that is dead."""
    if not unit.unit_key:
        raise InvalidInputError("a run needs the key of its unit, such as a bill's id")
    payload = {
        "run_id": str(uuid4()),
        "project": unit.project,
        "pipeline": unit.pipeline,
        "unit_key": unit.unit_key,
        "input_hash": _identity(unit, replay),
        "job_id": unit.job_id,
        "options": plain({"replay_from": replay.from_run, "fresh": sorted(replay.fresh)}),
        "owner": owner,
        "stale_after_s": STALE_AFTER_S,
        "columns": dict(unit.columns),
    }
    answer = await db.call("llm_run_start", payload)
    if answer.get("busy"):
        alive = is_owner_alive(db, answer["owner"])
        if alive or (alive is None and not answer["stale"]):
            raise RunBusyError(
                f"run {answer['run_id']} of {unit.unit_key} is being worked on by another process",
                run_id=answer["run_id"],
            )
        answer = await db.call("llm_run_start", {**payload, "take_over": answer["owner"]})
        if answer.get("busy"):
            raise RunBusyError(
                f"run {answer['run_id']} was taken over by another process",
                run_id=answer["run_id"],
            )
    return answer
