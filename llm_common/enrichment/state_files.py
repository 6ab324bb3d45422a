"""Job state in files, for hosts that want to look at it: a folder for each job, a file per row."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ..errors import InvalidInputError
from .atomic import replacing
from .interfaces import StateStore
from .models import JobState, JobStatus, PipelineConfig, RowState

FORMAT = 1
"""Of the files; another one is not read."""

JOB = "job.json"
JOB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
PLAIN_ROW_ID = re.compile(r"[0-9a-z_-]{1,64}")
"""Ids that are file names on every system; others are hashed."""

State = TypeVar("State", bound=BaseModel)


class FileSystemStateStore(StateStore):
    """Keeps jobs below a folder: ``<job id>/job.json``, and ``<job id>/rows/<row id>.json``.

    Each file is written whole or not at all: a process that is killed leaves the last state that
    was saved. Several processes may save different rows of one job; of one row the last save
    stays. Files are read and written in threads.

    Args:
        path: the folder; it is made when something is saved.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def save_job_state(self, job_state: JobState) -> None:
        """Keep a job, and those rows that it holds; rows that it does not hold stay as they are.

        Raises:
            InvalidInputError: its id is no plain name.
        """
        folder = self._folder(job_state.job_id)
        await asyncio.to_thread(_save_job, folder, job_state)

    async def save_row_state(self, job_id: str, row_state: RowState) -> None:
        """Keep one row of a job.

        Raises:
            InvalidInputError: the job's id is no plain name.
        """
        await asyncio.to_thread(_save_row, self._folder(job_id), row_state)

    async def load_job_state(self, job_id: str) -> JobState | None:
        """Return a job with its rows, ordered by id; None if there is none.

        Raises:
            InvalidInputError: a file is damaged or of another version, or the id no plain name.
        """
        return await asyncio.to_thread(_load, self._folder(job_id))

    async def list_job_ids(self, status: JobStatus | None = None) -> list[str]:
        """Return the ids of jobs, the latest first.

        Raises:
            InvalidInputError: a file is damaged or of another version.
        """
        return await asyncio.to_thread(_list, self._path, status)

    async def delete_job_state(self, job_id: str) -> None:
        """Forget a job; one that is not there is no error.

        Raises:
            InvalidInputError: the id is no plain name.
        """
        await asyncio.to_thread(_delete, self._folder(job_id))

    def _folder(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise InvalidInputError(
                f"{job_id!r} can't be a job's id: use letters, digits, '_', '-' and '.', at most "
                "100 of them, and no '.' in front"
            )
        return self._path / job_id


def _row_file(folder: Path, row_id: str) -> Path:
    name = row_id
    if not PLAIN_ROW_ID.fullmatch(row_id):
        name = "~" + sha256(row_id.encode("utf-8", "surrogatepass")).hexdigest()
    return folder / "rows" / f"{name}.json"


def _save_job(folder: Path, job: JobState) -> None:
    # Rows first: a job that is there has the rows that it was saved with.
    for row in job.rows.values():
        _save_row(folder, row)
    _write(folder / JOB, job.model_copy(update={"rows": {}}))


def _save_row(folder: Path, row: RowState) -> None:
    _write(_row_file(folder, row.row_id), row)


def _write(file: Path, state: BaseModel) -> None:
    # Text of pages may hold half characters, which pydantic's own JSON refuses.
    whole = {"format": FORMAT, "state": state.model_dump(mode="json")}
    content = json.dumps(whole).encode()
    if file.is_file() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def _load(folder: Path) -> JobState | None:
    if not (folder / JOB).is_file():
        return None
    job = _read(folder / JOB, JobState)
    rows = [_read(file, RowState) for file in (folder / "rows").glob("[!.]*.json")]
    by_id = {row.row_id: row for row in sorted(rows, key=lambda row: row.row_id)}
    return job.model_copy(update={"rows": by_id})


def _read(file: Path, model: type[State]) -> State:
    what = "/".join(file.parts[-3 if file.name != JOB else -2 :])
    try:
        given: Any = json.loads(file.read_bytes())
        whole = cast("Mapping[str, Any]", given if isinstance(given, dict) else {})
        if "format" in whole and whole["format"] != FORMAT:
            raise InvalidInputError(
                f"the state file {what} is of format {whole['format']!r}, and this version of "
                f"llm_common reads format {FORMAT}: use the version that wrote it"
            )
        return model.model_validate(whole.get("state"))
    except (ValueError, RecursionError) as error:
        # pydantic's errors are ValueErrors, and name values: they stay out.
        cause = None if isinstance(error, ValidationError) else error
        raise InvalidInputError(
            f"the state file {what} is damaged: take it from a copy, or delete the job's state"
        ) from cause


def _list(path: Path, status: JobStatus | None) -> list[str]:
    jobs = {file.parent.name: _read(file, JobState) for file in path.glob(f"[!.]*/{JOB}")}
    latest = sorted(jobs.items(), key=lambda item: (item[1].created_at, item[0]), reverse=True)
    return [job_id for job_id, job in latest if status in {None, job.status}]


def _delete(folder: Path) -> None:
    # Out of sight at once: a job that comes later under the same id must not find old rows.
    gone = folder.with_name(f".{secrets.token_hex(8)}.deleted")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone)


def mirror_of(config: PipelineConfig) -> FileSystemStateStore | None:
    """Return where a job's state is written besides Postgres, if it is."""
    if config.enable_state_persistence and config.state_persistence_path:
        return FileSystemStateStore(config.state_persistence_path)
    return None
