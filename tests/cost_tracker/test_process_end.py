"""However a process ends, what it knows reaches the ledger and what it leased is free again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_common import CostTracker
from llm_common.cost_tracker.process import ledger_for
from llm_common.cost_tracker.spool import _frame, read_records
from llm_common.testing import ProviderServer
from tests import children, servers
from tests.support import REPOSITORY

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

PRELUDE = """
import asyncio, json, os, signal, sys, threading
from decimal import Decimal
from uuid import uuid4
from llm_common import CostTracker, LLMClient, drain_on_sigterm
from llm_common.cost_tracker import Intent, Outcome
from llm_common.cost_tracker.process import ledger_for

# As in any program: measuring coverage sets a handler of its own.
signal.signal(signal.SIGTERM, signal.SIG_DFL)
costs = CostTracker(os.environ["DATABASE_URL"], daily_budget_usd=1000)
llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
MESSAGES = [{"role": "user", "content": "Which county pays?"}]

async def reserve():
    intent = Intent(str(uuid4()), 1, "first", "openai", "gpt-4o", 10_000_000)
    return await costs.reserve(intent)

async def pay():
    hold = await reserve()
    costs.settle(hold, Outcome("ok", Decimal("0.001"), "prices", "v1"))
    return hold

async def warm():
    await asyncio.gather(*(pay() for _ in range(20)))
    assert ledger_for(costs.db).leases.are_open
"""


def money(url: str) -> dict[str, Any]:
    """What is held, how many leases were granted, and what is left of them."""
    held = "SELECT coalesce(sum(held_nano), 0)::bigint FROM llm_budget_counters"
    left = "SELECT count(*) FILTER (WHERE granted_nano > 0), sum(left_nano)::bigint FROM llm_leases"
    ((held_nano,),), ((granted, left_nano),) = servers.fetch(url, held), servers.fetch(url, left)
    return {"held": held_nano, "granted": granted, "left": left_nano}


DONE = {"held": 0, "granted": 1, "left": 0}


PATIENT = """
from llm_common.cost_tracker import process
process.LAST_FLUSH_S = 60  # a busy machine may take longer than the end of a process waits
"""


async def run(code: str, url: str) -> str:
    return await children.run(PRELUDE + PATIENT + code, DATABASE_URL=url)


async def test_the_end_of_a_program_gives_leases_back(database_url: str, ledger: Ledger) -> None:
    await run("asyncio.run(warm())", database_url)
    assert money(database_url) == DONE
    assert [row["status"] for row in await ledger()] == ["ok"] * 20


LOOP_LEFT_OPEN = """
loop = asyncio.new_event_loop()
loop.run_until_complete(warm())
"""
LOOP_CLOSED = LOOP_LEFT_OPEN + "loop.close()\n"
OUT_OF_A_THREAD = """
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()
asyncio.run_coroutine_threadsafe(warm(), loop).result()
"""


@pytest.mark.parametrize(
    "code", [LOOP_LEFT_OPEN, LOOP_CLOSED, OUT_OF_A_THREAD], ids=["open", "closed", "thread"]
)
async def test_so_does_the_end_of_one_whose_loop_was_not_ended(
    database_url: str, costs: CostTracker, code: str
) -> None:
    await run(code, database_url)
    assert money(database_url) == DONE
    rows = servers.fetch(database_url, "SELECT status, count(*) FROM cost_tracking GROUP BY 1")
    assert rows == [("ok", 20)]
    folder = ledger_for(costs.db).spool.folder
    assert list(folder.iterdir()) == [ledger_for(costs.db).spool.path]


async def test_over_a_host_name_too(database_url: str) -> None:
    """No thread can look it up any more when the interpreter ends."""
    async with proxy(database_url) as port:
        name = conninfo_to_dict(database_url)["dbname"]
        await run(LOOP_LEFT_OPEN, f"postgresql://postgres@localhost:{port}/{name}")
    assert money(database_url) == DONE


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[int]:
    """Listen on loopback in front of the server's socket."""
    parts = conninfo_to_dict(url)
    path = f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}"

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, down), pump(up, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


AWAY_AT_THE_END = """
from llm_common.errors import DatabaseUnavailableError

async def away(function, payload):
    if os.environ["END"] == "hang":
        await asyncio.sleep(3600)
    raise DatabaseUnavailableError("away")

loop = asyncio.new_event_loop()
loop.run_until_complete(warm())
costs.db.call = away
"""


@pytest.mark.parametrize("end", ["hang", "fail"])
async def test_with_the_database_away_it_ends_soon_and_a_successor_brings_the_rows(
    database_url: str, ledger: Ledger, end: str
) -> None:
    code = PRELUDE + AWAY_AT_THE_END
    process = await children.start(code, DATABASE_URL=database_url, END=end)
    await children.output(process)
    assert money(database_url)["held"] > 0
    assert [row["status"] for row in await ledger()] == ["ok"] * 20
    assert money(database_url) == DONE


async def test_after_a_kill_the_successor_frees_what_was_leased(
    fake: ProviderServer, database_url: str, ledger: Ledger
) -> None:
    code = PRELUDE + "async def main():\n    await warm()\n    print('ready', flush=True)\n"
    code += "    await llm.chat(MESSAGES)\nasyncio.run(main())"
    fake.latency_s = 60
    async with children.killed(code, DATABASE_URL=database_url):
        await children.until(lambda: len(fake.requests) == 1)
    assert money(database_url)["held"] > 0
    rows = await ledger()
    assert sorted(row["status"] for row in rows) == ["estimated"] + ["ok"] * 20
    assert {row["kind"] for row in rows} == {"first"}
    assert money(database_url)["held"] == 0
    assert money(database_url)["left"] == 0


async def test_after_another_boot_nothing_is_freed_unseen(
    database_url: str, ledger: Ledger, costs: CostTracker
) -> None:
    """The end of its spool may be missing: what is left is charged when the lease expires."""
    code = "async def main():\n    await warm()\n    await costs.flush()\n    await warm()\n"
    code += "    hold = await pay()\n    os.kill(os.getpid(), signal.SIGKILL)\nasyncio.run(main())"
    async with children.killed(PRELUDE + code, DATABASE_URL=database_url) as child:
        await child.wait()
    (dead,) = [
        p
        for p in ledger_for(costs.db).spool.folder.glob("*.spool")
        if p != ledger_for(costs.db).spool.path
    ]
    lines = dead.read_bytes().split(b"\n")
    header = next(read_records(lines[0])) | {"boot": "another"}
    dead.write_bytes(_frame(header) + b"\n".join(lines[1:]))
    await ledger()
    left = money(database_url)["left"]
    assert left > 0
    servers.execute(database_url, "UPDATE llm_leases SET expires_at = clock_timestamp()")
    (loss,) = [row for row in await ledger() if row["kind"] == "lease_loss"]
    assert (loss["cost_usd"], loss["status"]) == (Decimal(left) / 10**9, "estimated")
    (budget,) = await costs.get_budgets()
    assert budget.held_usd == 0
    assert budget.spent_usd == await costs.get_daily_cost()


TERMINATED = """
async def main():
    if os.environ["DRAINS"]:
        drain_on_sigterm()
    await warm()
    calls = [asyncio.create_task(llm.chat(MESSAGES)) for _ in range(3)]
    await asyncio.gather(*calls)

asyncio.run(main())
"""


@pytest.mark.parametrize("drains", ["yes", ""])
async def test_sigterm(
    fake: ProviderServer, database_url: str, ledger: Ledger, drains: str
) -> None:
    """With the handler the process drains; without it nothing is lost, but waits for the next."""
    fake.latency_s = 60
    code = PRELUDE + TERMINATED
    process = await children.start(code, DATABASE_URL=database_url, DRAINS=drains)
    await children.until(lambda: len(fake.requests) == 3)
    process.terminate()
    _, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == (143 if drains else -signal.SIGTERM), errors.decode()
    assert b"Traceback" not in errors
    count = "SELECT count(*) FROM cost_tracking WHERE cost_source = 'estimated'"
    if drains:
        assert servers.fetch(database_url, count) == [(3,)]
        assert money(database_url)["held"] == money(database_url)["left"] == 0
    rows = await ledger()
    assert len(rows) == 23
    expected = "cancelled" if drains else "estimated"
    assert [row["status"] for row in rows if row["status"] != "ok"] == [expected] * 3
    assert sum(row["cost_usd"] for row in rows if row["status"] == "ok") == Decimal("0.02")
    assert money(database_url)["held"] == money(database_url)["left"] == 0


WITHOUT_A_LOOP = """
from llm_common import CostTracker, drain_on_sigterm
drain_on_sigterm()
asyncio.new_event_loop().run_until_complete(warm())
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


async def test_sigterm_without_a_loop(database_url: str) -> None:
    code = PRELUDE + PATIENT + WITHOUT_A_LOOP
    process = await children.start(code, DATABASE_URL=database_url)
    await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 143
    assert money(database_url) == DONE


def test_a_hosts_own_handler_is_left_alone() -> None:
    code = (
        "import signal; from llm_common import drain_on_sigterm\n"
        "def own(*_): ...\n"
        "signal.signal(signal.SIGTERM, own); drain_on_sigterm()\n"
        "assert signal.getsignal(signal.SIGTERM) is own\n"
    )
    environment = {**os.environ, "LLM_COMMON_STATE_DIR": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, env=environment)


FORK = """
async def lease_of():
    return (await pay()).row["lease_id"]

async def main():
    await warm()
    return await lease_of()

loop = asyncio.new_event_loop()
mine = loop.run_until_complete(main())
read, write = os.pipe()
if os.fork() == 0:
    async def child():
        first = ledger_for(costs.db).leases.are_open
        await warm()
        return [first, await lease_of()]
    os.write(write, json.dumps(asyncio.run(child())).encode())
    sys.exit()
assert os.wait()[1] == 0
print(json.dumps([mine, loop.run_until_complete(lease_of()), *json.loads(os.read(read, 999))]))
"""


async def test_a_forked_child_has_leases_of_its_own(database_url: str, ledger: Ledger) -> None:
    mine, later, had_any, childs = json.loads(await run(FORK, database_url))
    assert mine == later
    assert not had_any
    assert childs != mine
    assert len(await ledger()) == 43
    assert money(database_url) == {"held": 0, "granted": 2, "left": 0}
