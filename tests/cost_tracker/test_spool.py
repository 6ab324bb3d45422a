"""What was sent is known whatever becomes of the process."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common import CostTracker, LLMClient
from llm_common.cost_tracker import Intent, Outcome, is_owner_alive, owner_of
from llm_common.cost_tracker.process import ledger_for
from llm_common.cost_tracker.spool import (
    Spool,
    abandoned,
    boot_id,
    folder_for,
    is_alive,
    left_in,
    read_records,
)
from llm_common.database import Database
from llm_common.errors import DatabaseUnavailableError, SpoolError
from llm_common.testing import Answer, ProviderServer
from llm_common.types import Usage
from tests import children
from tests.servers import fetch

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]

LABELS = st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4)
ROWS = LABELS.map(lambda labels: {**labels, "lease": None, "operation_id": "o", "attempt_no": 1})
RECORDS = st.lists(st.tuples(st.sampled_from("ir"), ROWS), max_size=5)


def spooled(records: list[tuple[str, dict[str, Any]]]) -> bytes:
    """The bytes of a spool after these records."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for kind, row in records:
            spool.append(kind, row)
        spool.forget()
        return spool.path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_a_file_cut_anywhere_holds_what_was_completely_written_and_nothing_else(
    records: list[tuple[str, dict[str, Any]]],
) -> None:
    data = spooled(records)
    written = list(read_records(data))
    assert [(r["t"], r["row"]) for r in written[1:]] == records
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data)):
        # The line feed itself carries nothing.
        whole = sum(end - 1 <= length for end in ends)
        assert list(read_records(data[:length])) == written[:whole]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_record_is_left_out_and_harms_no_other(data: st.DataObject) -> None:
    rows = [{"operation_id": "a", "attempt_no": number} for number in (1, 2, 3)]
    content = spooled([("i", rows[0]), ("r", rows[1]), ("i", rows[2])])
    lines = content.split(b"\n")
    at = data.draw(st.integers(0, len(content) - 1).filter(lambda i: content[i] != ord("\n")))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b not in (content[at], ord("\n"))))
    damaged = content[:at] + bytes([byte]) + content[at + 1 :]
    hit = content[:at].count(b"\n")
    rest = b"\n".join(line for i, line in enumerate(lines) if i != hit)
    assert list(read_records(damaged)) == list(read_records(rest))


def test_the_first_final_result_takes_the_place_of_its_intent() -> None:
    one, two = {"operation_id": "a", "attempt_no": 1}, {"operation_id": "a", "attempt_no": 2}
    estimate = {"cost_source": "estimated"}
    final = {**one, "cost_source": "prices", "cost_usd": "1"}
    records = [one | estimate, two | estimate, {**one, **estimate, "status": "cancelled"}]
    records += [final, final | {"cost_usd": "2"}, one | estimate]
    left = left_in(spooled([("i", row) for row in records[:2]] + [("r", r) for r in records[2:]]))
    assert left.rows == [final, two | estimate]
    assert left.boot == boot_id()


def test_only_its_owner_can_read_it() -> None:
    spool = Spool(folder_for(f"database {uuid4()}"))
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    spool.close()


@contextmanager
def full_disk(bytes_left: int, file: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what this one has, and a little."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("bytes_left", [0, 1, 9, 30])
def test_a_full_disk_is_an_error_and_leaves_the_file_whole(tmp_path: Path, bytes_left: int) -> None:
    spool = Spool(tmp_path)
    first, second, third = ({"operation_id": "a", "attempt_no": n, "n": n} for n in (1, 2, 3))
    spool.append("i", first)
    with full_disk(bytes_left, spool.path), pytest.raises(SpoolError, match="can't be written"):
        spool.append("i", second)
    spool.append("i", third)
    spool.close()
    assert [r["row"]["n"] for r in read_records(spool.path.read_bytes()) if r["t"] == "i"] == [1, 3]


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Spool]:
    """The spool of a living process."""
    spool = Spool(tmp_path)
    yield spool
    spool.close()


def test_the_lock_tells_who_lives(mine: Spool, tmp_path: Path) -> None:
    other = Spool(tmp_path)
    instance = other.instance
    other.append("i", {"operation_id": "a", "attempt_no": 1, "cost_source": "estimated"})
    assert is_alive(tmp_path, instance)
    assert list(abandoned(tmp_path, mine.path)) == []
    other.close()
    assert not is_alive(tmp_path, other.instance)
    assert not is_alive(tmp_path, str(uuid4()))
    assert [dead.path.stem for dead in abandoned(tmp_path, mine.path)] == [instance]


def test_a_dead_process_is_dead_also_while_its_file_is_replayed(
    mine: Spool, tmp_path: Path
) -> None:
    dead = Spool(tmp_path)
    dead.append("l", {"lease": "a", "project": "p"})
    dead.close()
    for _ in abandoned(tmp_path, mine.path):
        assert not is_alive(tmp_path, dead.instance)
        assert list(abandoned(tmp_path, mine.path)) == [], "two replay the same file"
    assert len(list(abandoned(tmp_path, mine.path))) == 1, "given up by its replayer, taken by none"


def intent(**changes: Any) -> Intent:
    fields = {"bound_nano": 10_000_000, **changes}
    return Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", **fields)


async def test_no_prompt_answer_or_key_is_in_it(
    fake: ProviderServer, costs: CostTracker, db: Database
) -> None:
    fake.script(Answer(text="a secret answer"))
    llm = LLMClient("openai", api_key="sk-secret-key", model="gpt-4o", cost_tracker=costs)
    await llm.chat([{"role": "user", "content": "a secret question"}])
    data = ledger_for(db).spool.path.read_bytes()
    assert [r["t"] for r in read_records(data)] == ["h", "i", "r"]
    assert b"secret" not in data


CALL = """
import asyncio, os
from llm_common import CostTracker, LLMClient
costs = CostTracker(os.environ["DATABASE_URL"], daily_budget_usd=1)
llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
print(asyncio.run(llm.chat([{"role": "user", "content": "Which county pays?"}])))
"""


async def test_a_killed_call_is_in_the_ledger_as_estimated(
    fake: ProviderServer, costs: CostTracker, database_url: str, ledger: Ledger
) -> None:
    fake.latency_s = 60
    async with children.killed(CALL, DATABASE_URL=database_url):
        await children.until(lambda: len(fake.requests) == 1)
    (row,) = await ledger()
    assert (row["status"], row["cost_source"]) == ("estimated", "estimated")
    assert row["cost_usd"] >= fake.invoice.total_usd > 0
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (row["cost_usd"], 0)
    assert list(ledger_for(costs.db).spool.folder.glob("*")) == [ledger_for(costs.db).spool.path]


RESULT_NOT_FLUSHED = """
import asyncio, os, signal
from llm_common import CostTracker, LLMClient
from llm_common.database import connect

class Deaf:
    def __init__(self, db):
        self.db, self.identity, self.aclose = db, db.identity, db.aclose

    async def call(self, function, payload):
        if function == "llm_settle":
            await asyncio.sleep(3600)
        return await self.db.call(function, payload)

async def main():
    costs = CostTracker(Deaf(connect(os.environ["DATABASE_URL"])), daily_budget_usd=1)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat([{"role": "user", "content": "Which county pays?"}])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_result_that_did_not_reach_the_database_is_replayed_as_final(
    fake: ProviderServer, costs: CostTracker, database_url: str, ledger: Ledger
) -> None:
    async with children.killed(RESULT_NOT_FLUSHED, DATABASE_URL=database_url) as child:
        await child.wait()
    (row,) = await ledger()
    assert (row["status"], row["cost_usd"]) == ("ok", fake.invoice.total_usd)
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (row["cost_usd"], 0)


FLUSH = """
import asyncio, logging, os, sys
from llm_common import CostTracker
logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
asyncio.run(CostTracker(os.environ["DATABASE_URL"]).flush())
"""


def leave_behind(db: Database, rows: int) -> None:
    """Leave the spool of a process that died with so many attempts in flight."""
    spool = Spool(ledger_for(db).spool.folder)
    for _ in range(rows):
        row = intent().row("test")
        spool.append("i", {**row, "timestamp": "2026-11-21T10:00:00+00:00"})
    spool.close()


async def test_of_two_processes_that_start_at_once_one_replays(
    db: Database, database_url: str, ledger: Ledger
) -> None:
    leave_behind(db, 1200)
    starts = [await children.start(FLUSH, DATABASE_URL=database_url) for _ in range(2)]
    printed = "\n".join([await children.output(process) for process in starts])
    assert printed.count("spool.replayed rows=1200") == 1
    assert len(await ledger()) == 1200


async def test_who_finds_an_owner_dead_replays_it(
    db: Database, costs: CostTracker, ledger: Ledger
) -> None:
    assert await ledger() == []
    owner = owner_of(db)
    leave_behind(db, 1)
    dead = next(p for p in ledger_for(db).spool.folder.glob("*.spool") if p.stem not in owner)
    assert await ledger() == [], "the folder is read at the start of a process only"
    assert is_owner_alive(db, owner) is True
    assert is_owner_alive(db, owner.replace(owner.rpartition(":")[2], dead.stem)) is False
    assert len(await ledger()) == 1


def test_an_owner_on_another_machine_can_not_be_seen(db: Database) -> None:
    assert is_owner_alive(db, f"elsewhere:{uuid4()}") is None


class Away:
    """A database that can be cut off."""

    def __init__(self, db: Database) -> None:
        self.db, self.away = db, False

    @property
    def identity(self) -> str:
        return self.db.identity

    async def call(self, function: str, payload: Any) -> Any:
        if self.away:
            raise DatabaseUnavailableError("away")
        return await self.db.call(function, payload)

    async def aclose(self) -> None:
        await self.db.aclose()


async def test_rows_wait_for_a_database_that_is_away(db: Database, ledger: Ledger) -> None:
    cut = Away(db)
    costs = CostTracker(cut, daily_budget_usd=1)
    hold = await costs.reserve(intent())
    cut.away = True
    costs.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1", Usage(input_tokens=1)))
    with pytest.raises(DatabaseUnavailableError):
        await costs.flush()
    spool = ledger_for(db).spool
    assert [r["t"] for r in read_records(spool.path.read_bytes())] == ["h", "i", "r"]
    cut.away = False
    (row,) = await ledger()
    assert (row["status"], row["cost_usd"]) == ("ok", Decimal("0.002"))


async def test_rows_arrive_by_themselves_once_the_database_is_back(
    db: Database, database_url: str
) -> None:
    cut = Away(db)
    costs = CostTracker(cut)
    hold = await costs.reserve(intent())
    cut.away = True
    costs.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1"))
    await asyncio.sleep(0.1)
    assert fetch(database_url, "SELECT cost_usd FROM cost_tracking") == []
    cut.away = False
    await children.until(lambda: bool(fetch(database_url, "SELECT cost_usd FROM cost_tracking")))


async def test_the_end_of_a_loop_with_the_database_away_is_quiet_and_loses_nothing(
    db: Database, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    cut = Away(db)
    gc.collect()  # what earlier tests left may complain as it goes
    caplog.clear()

    async def pay() -> None:
        costs = CostTracker(cut)
        hold = await costs.reserve(intent())
        cut.away = True
        costs.settle(hold, Outcome("ok", Decimal("0.002"), "prices", "v1"))

    await asyncio.to_thread(asyncio.run, pay())
    assert [r.name for r in caplog.records if r.levelname == "ERROR"] == []
    cut.away = False
    (row,) = await ledger()
    assert row["cost_usd"] == Decimal("0.002")


async def test_without_a_spool_nothing_is_sent(
    fake: ProviderServer, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    llm = LLMClient("openai", model="gpt-4o", db=database_url)
    with monkeypatch.context() as patch:
        patch.setenv("LLM_COMMON_STATE_DIR", str(blocked / "state"))
        with pytest.raises(SpoolError, match="spool"):
            await llm.chat(MESSAGES)
    assert fake.requests == []


async def test_an_intent_that_can_not_be_written_takes_the_hold_back(
    fake: ProviderServer, db: Database, ledger: Ledger
) -> None:
    costs = CostTracker(db, daily_budget_usd=1)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES)
    await costs.flush()
    with full_disk(100, ledger_for(db).spool.path), pytest.raises(SpoolError):
        await llm.chat(MESSAGES)
    assert len(fake.requests) == 1
    rows = await ledger()
    assert [(r["status"], r["error_class"]) for r in rows] == [
        ("ok", None),
        ("error", "SpoolError"),
    ]
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (fake.invoice.total_usd, 0)


async def test_a_program_that_ends_right_after_a_call_loses_no_row(
    fake: ProviderServer, costs: CostTracker, database_url: str, ledger: Ledger
) -> None:
    await children.run(CALL, DATABASE_URL=database_url)
    (row,) = await ledger()
    assert (row["status"], row["cost_usd"]) == ("ok", fake.invoice.total_usd)
    own = ledger_for(costs.db)
    assert [*own.spool.folder.glob("*")] == [own.spool.path], "a spool stayed after a clean end"


FORK = """
import asyncio, json, os, sys
from uuid import uuid4
from decimal import Decimal
from llm_common import CostTracker
from llm_common.cost_tracker import Intent, Outcome
from llm_common.cost_tracker.process import ledger_for
from llm_common.cost_tracker.spool import is_alive

costs = CostTracker(os.environ["DATABASE_URL"])

async def pay(settle):
    hold = await costs.reserve(Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", 5_000_000))
    if settle:
        costs.settle(hold, Outcome("ok", Decimal("0.001"), "prices", "v1"))

asyncio.run(pay(False))
parent = ledger_for(costs.db).spool
if os.fork() == 0:
    asyncio.run(pay(True))
    assert ledger_for(costs.db).spool.path != parent.path
    sys.exit()
code = os.wait()[1]
children = [p for p in parent.folder.glob("*") if p != parent.path]
alive = is_alive(parent.folder, parent.instance)
print(json.dumps([code, alive, parent.path.exists(), len(children)]))
"""


async def test_a_forked_child_is_a_process_of_its_own(
    costs: CostTracker, database_url: str, ledger: Ledger
) -> None:
    assert json.loads(await children.run(FORK, DATABASE_URL=database_url)) == [0, True, True, 0]
    rows = [(r["status"], r["cost_usd"]) for r in await ledger()]
    assert sorted(rows) == [("estimated", Decimal("0.005")), ("ok", Decimal("0.001"))]
