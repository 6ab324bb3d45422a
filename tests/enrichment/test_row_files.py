"""Rows that are read while they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_common.enrichment import Column, EnrichedRow, open_table
from llm_common.enrichment.row_files import AT_ONCE, write_rows
from llm_common.errors import DatabaseUnavailableError, InvalidInputError

WANTED = [Column(name="phone")]


async def some(count: int, closed: list[bool]) -> AsyncGenerator[EnrichedRow]:
    try:
        for n in range(count):
            await asyncio.sleep(0)
            yield EnrichedRow(
                row_id=str(n), original_data={"n": n}, enriched_columns={"phone": str(n)}
            )
    finally:
        closed.append(True)


async def test_all_rows_arrive_in_their_order(tmp_path: Path) -> None:
    path, closed = tmp_path / "out.csv", list[bool]()
    count = 2 * AT_ONCE + 1
    assert await write_rows(path, ["n"], some(count, closed), WANTED, evidence="none") == count
    rows = [row for batch in open_table(path).batches() for row in batch]
    assert [(row["n"], row["phone"]) for row in rows] == [(str(n), str(n)) for n in range(count)]
    assert closed == [True]


async def test_a_write_that_is_given_up_leaves_the_old_file(tmp_path: Path) -> None:
    path, closed = tmp_path / "out.csv", list[bool]()
    path.write_text("the old one", encoding="utf-8")
    reached = asyncio.Event()

    async def endless() -> AsyncGenerator[EnrichedRow]:
        async for row in some(10**9, closed):
            yield row
            if row.row_id == str(3 * AT_ONCE):
                reached.set()

    writing = asyncio.create_task(write_rows(path, ["n"], endless(), WANTED))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert path.read_text(encoding="utf-8") == "the old one"
    assert [found.name for found in tmp_path.iterdir()] == ["out.csv"]


async def test_rows_that_can_t_be_read_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("the old one", encoding="utf-8")

    async def broken() -> AsyncGenerator[EnrichedRow]:
        async for row in some(AT_ONCE, []):
            yield row
        raise DatabaseUnavailableError("it is away")

    with pytest.raises(DatabaseUnavailableError):
        await write_rows(path, ["n"], broken(), WANTED)
    assert path.read_text(encoding="utf-8") == "the old one"


async def test_a_target_that_will_not_do_reads_nothing(tmp_path: Path) -> None:
    closed = list[bool]()
    with pytest.raises(InvalidInputError, match="does not say its format"):
        await write_rows(tmp_path / "out.docx", ["n"], some(1, closed), WANTED)
    assert closed == []
