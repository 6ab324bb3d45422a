"""The rows of a job as a file: read on the event loop, written in a thread, some at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

from .models import Column, EnrichedRow
from .tables import write_table

AT_ONCE = 200
"""Rows that are handed to the writer together."""


async def write_rows(
    path: str | Path,
    columns: Sequence[str],
    rows: AsyncGenerator[EnrichedRow],
    wanted: Sequence[Column],
    *,
    evidence: str | None = None,
) -> int:
    """Write rows to a file as they are read, as `write_table` does; return how many there were.

    A write that is cancelled leaves the old file as it was.

    Raises:
        InvalidInputError: as `write_table`.
        MissingExtraError: the extra `tables` is not installed.
    """
    loop, is_given_up = asyncio.get_running_loop(), threading.Event()

    def all_rows() -> Iterator[EnrichedRow]:
        while batch := asyncio.run_coroutine_threadsafe(_some(rows), loop).result():
            yield from batch
            if is_given_up.is_set():
                raise asyncio.CancelledError

    writing = asyncio.ensure_future(
        asyncio.to_thread(write_table, path, columns, all_rows(), wanted, evidence=evidence)
    )
    try:
        return await asyncio.shield(writing)
    finally:
        is_given_up.set()
        await asyncio.gather(writing, return_exceptions=True)
        await rows.aclose()


async def _some(rows: AsyncGenerator[EnrichedRow]) -> list[EnrichedRow]:
    batch: list[EnrichedRow] = []
    async for row in rows:
        batch.append(row)
        if len(batch) == AT_ONCE:
            break
    return batch
