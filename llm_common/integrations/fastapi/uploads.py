"""What a client sends: read up to a limit, checked, and never trusted with a name."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from fastapi import HTTPException, Request
from pydantic import Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ...enrichment import EnrichmentRequest, PipelineConfig, open_table
from ...enrichment.tables.opening import DELIMITED, PARQUET, SHEETS
from ...errors import InvalidInputError, MissingExtraError
from ...runs import digest
from ...types import Frozen
from .problems import invalid

Row = Mapping[str, Any]

UNPACKED = 20
"""Times its size is what an uploaded workbook may hold: more is no table, but a trap."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of what a client sends.

    Attributes:
        upload_bytes: of a body.
        rows, columns: of a table.
        cell_chars: of one value.
    """

    upload_bytes: int
    rows: int = 100_000
    columns: int = 500
    cell_chars: int = 32_767


class JobBody(Frozen):
    """A table and what is wanted of it."""

    rows: list[dict[str, Any]] = Field(min_length=1)
    request: EnrichmentRequest
    config: PipelineConfig = PipelineConfig()


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants.

    Attributes:
        rows: begins to read the table.
        rows_digest: tells one table from another.
    """

    rows: Callable[[], Iterator[Row]]
    rows_digest: str
    request: EnrichmentRequest
    config: PipelineConfig


async def read_order(
    request: Request, folder: Path, limits: Limits, model: str | None = None
) -> Order:
    """Read a job from JSON, or from a form with a table.

    Args:
        folder: temporary; the table is kept there while it is read.
        model: of jobs that name none.

    Raises:
        HTTPException: 413 where it is too large, 415 where it is neither.
        InvalidInputError: it can't be used.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        order = await _from_form(request, folder, limits)
    elif kind == "application/json":
        body = b"".join([chunk async for chunk in limited(request, limits.upload_bytes)])
        order = await asyncio.to_thread(_from_json, body)
    else:
        raise HTTPException(415, "send application/json, or multipart/form-data with a file")
    if order.config.enable_state_persistence or order.config.state_persistence_path:
        raise InvalidInputError("config: where state is written is for the server to say")
    await asyncio.to_thread(_check, order.rows(), limits)
    config = order.config.model_copy(update={"model": order.config.model or model})
    return replace(order, config=config)


async def limited(request: Request, most: int) -> AsyncGenerator[bytes]:
    """Yield a body as it comes; one that is too large is read no further.

    Raises:
        HTTPException: 413.
    """
    refusal = HTTPException(413, f"the upload is larger than {most:,} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise refusal
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise refusal
        yield chunk


def _from_json(body: bytes) -> Order:
    try:
        job = JobBody.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error, "the body can't be used") from None
    return Order(lambda: iter(job.rows), digest(job.rows), job.request, job.config)


async def _from_form(request: Request, folder: Path, limits: Limits) -> Order:
    form = await _form(request, limits)
    try:
        if odd := sorted(set(form) - {"file", "request", "config"}):
            raise InvalidInputError(f"the form takes file, request and config, not {odd[0]!r}")
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidInputError("the form has no part 'file' with a file name: send the table")
        wanted = _part(form, "request", EnrichmentRequest)
        config = _part(form, "config", PipelineConfig) if "config" in form else PipelineConfig()
        path = folder / f"table{_suffix(upload.filename)}"
        found = await asyncio.to_thread(_kept, upload, path)
    finally:
        await form.close()
    await asyncio.to_thread(_check_packed, path)
    table = await asyncio.to_thread(open_table, path)
    if table.count is not None and table.count > limits.rows:
        raise _too_many(limits)
    return Order(lambda: chain.from_iterable(table.batches()), found, wanted, config)


async def _form(request: Request, limits: Limits) -> FormData:
    try:
        import python_multipart  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError("python-multipart", "web") from error
    body = limited(request, limits.upload_bytes)
    parser = MultiPartParser(request.headers, body, max_files=1, max_fields=5)
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise InvalidInputError(f"the form can't be read: {error.message}") from None


def _part(form: FormData, name: str, model: type[Any]) -> Any:
    text = form.get(name)
    if not isinstance(text, str):
        raise InvalidInputError(f"the form has no part {name!r}: send it as JSON")
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise invalid(error, f"{name} can't be used") from None


def _suffix(name: str | None) -> str:
    """Return the ending of a client's file name, if it is one of ours; the rest is never used."""
    suffix = PurePosixPath(name or "").suffix.lower()
    known = (*DELIMITED, *SHEETS, *PARQUET)
    if suffix not in known:
        raise InvalidInputError(f"the name of the file must end in {', '.join(known)}")
    return suffix


def _kept(upload: UploadFile, path: Path) -> str:
    """Store an upload; return its SHA-256."""
    with path.open("xb") as file:
        shutil.copyfileobj(upload.file, file)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_packed(path: Path) -> None:
    """Refuse a workbook that would grow out of all proportion when it is opened."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
    except zipfile.BadZipFile:
        raise InvalidInputError("the workbook is damaged: save it anew") from None
    if size > max(UNPACKED * path.stat().st_size, 10_000_000):
        raise HTTPException(413, "the workbook holds far more than its size: send it as CSV")


def _check(rows: Iterable[Row], limits: Limits) -> None:
    """Read a table once, before anything of it is stored."""
    for number, row in enumerate(rows, 1):
        if number > limits.rows:
            raise _too_many(limits)
        if len(row) > limits.columns:
            raise HTTPException(413, f"row {number} has more than {limits.columns:,} columns")
        for name, value in row.items():
            if _size(name) > limits.cell_chars or _size(value) > limits.cell_chars:
                where = f"row {number}, column {name[:50]!r}"
                raise HTTPException(413, f"{where}: more than {limits.cell_chars:,} characters")


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(json.dumps(value, default=str)) if isinstance(value, (dict, list)) else 0


def _too_many(limits: Limits) -> HTTPException:
    return HTTPException(413, f"the table has more than {limits.rows:,} rows: split it")
