"""A durable run: steps whose results are stored, looked up and never paid for twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..context import labels
from ..cost_tracker import flush_quietly
from ..database import Database
from ..errors import DatabaseError, DuplicateStepError, FencedError
from ..telemetry import event
from .canonical import digest, encoded, plain
from .outcomes import Retries

INLINE_BYTES = 64 * 1024
"""Outputs over this size go to the content-addressed table."""

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
        is_finished: whether `finish` has set a status, or there was nothing to do.
    """

    def __init__(self, db: Database, answer: Mapping[str, Any], owner: str, replay: Replay) -> None:
        self.id: str = answer["run_id"]
        self.status: str = answer["status"]
        self.stored: Any = answer["analysis_json"]
        self.executed: list[tuple[str, str]] = []
        self.is_finished = self.status == "completed"
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
        retries: Retries | None = None,
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
            retries: by default a failure of the step is one of the run.

        Raises:
            DuplicateStepError: this name and key were used before in this execution.
            FencedError: a successor took the run over.
        """
        if (name, key) in self._used:
            raise DuplicateStepError(
                f"step {name!r} with key {key!r} twice in one run", run_id=self.id
            )
        self._used.add((name, key))
        intent = {
            "step": name,
            "key": key,
            "input_hash": digest([inputs, prompt_hash]),
            "version": version,
            "model": model,
            "max_age_s": None if max_age is None else max_age.total_seconds(),
            "fresh": name in self._replay.fresh,
        }
        return await self._tried(intent, fn, inputs, retries or Retries())

    async def now(self, key: str = "") -> datetime:
        """Return the time, recorded: a resumed run sees the time of its first execution."""

        async def read() -> str:
            return datetime.now(UTC).isoformat()

        return datetime.fromisoformat(await self.step("now", read, {}, key=key))

    async def finish(self, status: str, **columns: Any) -> None:
        """Set the status and the result columns of the run, once its costs are in the ledger.

        If they can't be brought there now, they follow later.
        """
        await flush_quietly(self._db)
        await self._call("llm_run_finish", {"status": status, **plain(columns)})
        self.is_finished = True

    async def _tried(
        self, intent: dict[str, Any], fn: StepFunction, inputs: Mapping[str, Any], retries: Retries
    ) -> Any:
        """Look a step up or execute it, again after errors that may pass."""
        name, key, failures = intent["step"], intent["key"], 0
        while True:
            begun = await self._begin(intent)
            if begun["found"]:
                return begun["output"]
            self.executed.append((name, key))
            try:
                return await self._execute(name, key, fn, inputs)
            except Exception as error:
                failures += 1
                wait_s = retries.wait_s(error, failures)
                if wait_s is None or isinstance(error, FencedError):
                    raise
                await asyncio.sleep(wait_s)

    async def _execute(
        self, name: str, key: str, fn: StepFunction, inputs: Mapping[str, Any]
    ) -> Any:
        try:
            with labels(run_id=self.id, step=name):
                output = plain(await fn(**inputs))
            size = len(encoded(output))
        except BaseException as error:
            failed = {"state": "failed", "error_class": type(error).__name__}
            await note(self._finish({"step": name, "key": key, **failed}, 0))
            raise
        large = digest(output) if size > INLINE_BYTES else None
        done = {"step": name, "key": key, "state": "done", "output": output, "output_hash": large}
        return await self._finish(done, size)

    async def _begin(self, intent: dict[str, Any]) -> Mapping[str, Any]:
        """Write an intent down; return the stored result, if there is one."""
        more = {"owner": self._owner, "from_run": self._replay.from_run}
        return await self._call("llm_step_begin", {**intent, **more})

    async def _finish(self, done: dict[str, Any], size: int) -> Any:  # noqa: ARG002
        """Write a result down and return it as it is stored; `size` is its bytes."""
        return (await self._call("llm_step_finish", done)).get("output")

    async def _call(self, function: str, payload: Mapping[str, Any]) -> Any:
        answer = await self._db.call(function, {"run_id": self.id, "fence": self._fence, **payload})
        if answer.get("fenced"):
            raise FencedError(f"run {self.id} was taken over by another worker", run_id=self.id)
        return answer


async def note(call: Awaitable[Any]) -> None:
    """Write down how something failed; that this fails as well must not hide the first error.

    A task that is being cancelled may still tell the database, once.
    """
    try:
        await asyncio.shield(call)
    except (DatabaseError, FencedError) as error:
        event("run.not_noted", level=logging.WARNING, error=type(error).__name__)
