"""A spool that is always in use stays small."""

from __future__ import annotations

import asyncio
import os
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

from llm_common import CostTracker
from llm_common.cost_tracker import Intent, Outcome
from llm_common.cost_tracker.ledger import BATCH
from llm_common.cost_tracker.process import ledger_for
from llm_common.cost_tracker.spool import SEGMENT_BYTES, Spool, abandoned, is_alive, read_records
from llm_common.database import Database

FILLING = "x" * 1000


def row(number: int, **changes: Any) -> dict[str, Any]:
    named = {"operation_id": str(number), "attempt_no": 1, "cost_source": "estimated"}
    return {**named, "filling": FILLING, **changes}


def files(folder: Path) -> dict[str, int]:
    return {path.suffix: path.stat().st_size for path in sorted(folder.iterdir())}


def test_files_go_when_the_database_has_everything_in_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    empty = spool.path.stat().st_size
    number, peak = 0, 0
    for number in range(8000):
        spool.append("i", row(number))
        spool.append("r", row(number, cost_source="prices"))
        if number >= 100:
            spool.acknowledged([row(number - 100)])
        peak = max(peak, sum(files(tmp_path).values()))
    assert 5 * peak < 2 * 8000 * 1000, "what is written would not fit what there is"
    assert peak <= 3 * SEGMENT_BYTES
    spool.acknowledged([row(n) for n in range(number - 100, number + 1)])
    assert spool.is_empty
    assert spool.path.stat().st_size == empty, "the first file keeps its header"
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_long_call_keeps_its_own_file_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("i", row(-1))
    for number in range(4000):
        spool.append("i", row(number))
        spool.acknowledged([row(number)])
    assert len(list(tmp_path.iterdir())) == 2
    spool.append("r", row(-1, cost_source="prices"))
    spool.forget()
    (left,) = abandoned(tmp_path, None)
    assert row(-1, cost_source="prices") in left.left.rows
    left.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_result_in_a_later_file_takes_the_place_of_its_intent(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(2500):
        spool.append("i", row(number))
    assert len(list(tmp_path.iterdir())) == 3
    assert is_alive(tmp_path, spool.instance)
    for number in range(2500):
        spool.append("r", row(number, cost_source="prices"))
    spool.append("l", {"lease": "a", "project": "p"})
    spool.forget()
    assert not is_alive(tmp_path, spool.instance)
    mine = Spool(tmp_path)
    (dead,) = abandoned(tmp_path, mine.path)
    assert len(dead.left.rows) == 2500
    assert {r["cost_source"] for r in dead.left.rows} == {"prices"}
    assert dead.left.leases == [{"lease": "a", "project": "p"}]
    mine.close()


def test_a_line_that_was_cut_off_harms_no_other_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("i", row(1))
    whole = spool.path.read_bytes()
    os.truncate(spool.path, len(whole) - 5)
    (tmp_path / f"{spool.instance}.000001.segment").write_bytes(whole[whole.index(b"\n") + 1 :])
    spool.forget()
    (dead,) = abandoned(tmp_path, None)
    assert dead.left.rows == [row(1)]


async def test_disk_and_memory_stay_flat_under_constant_load(db: Database) -> None:
    tracker = CostTracker(db, daily_budget_usd=100_000)
    ledger, peak, gate = ledger_for(db), 0, asyncio.Semaphore(64)

    async def call() -> None:
        nonlocal peak
        async with gate:
            # A load that the database keeps up with: where it stands still, so do the calls.
            while len(ledger._pending) + sum(map(len, ledger._sending.values())) > 2 * BATCH:
                await asyncio.sleep(0.01)
            intent = Intent(str(uuid4()), 1, "first", "openai", "m", 1_000_000, step=FILLING)
            hold = await tracker.reserve(intent)
            await asyncio.sleep(0.04)
            tracker.settle(hold, Outcome("ok", Decimal("0.0001"), "prices", "v1"))
            folder = ledger.spool.folder
            peak = max(peak, sum(path.stat().st_size for path in folder.iterdir()))

    for _ in range(3):
        await asyncio.gather(*(call() for _ in range(1500)))
    assert peak < 6 * SEGMENT_BYTES, "4500 calls write some 16 MB"
    await tracker.flush()
    assert await tracker.get_daily_cost() == Decimal("0.45")
    assert ledger.spool.is_empty
    assert len(list(ledger.spool.folder.iterdir())) <= 2
    kinds = [r["t"] for r in read_records(ledger.spool.path.read_bytes())]
    assert kinds[0] == "h"
