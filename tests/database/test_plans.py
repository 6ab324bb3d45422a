"""Hot paths at size: every statement that the library really runs finds its rows by an index.

auto_explain, loaded into every session of a filled database, writes the plan of each statement into
the server's log, those inside functions too. The calls are the library's own, so that neither SQL
nor arguments here can differ from those of a host.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_common import ConversationMemory, CostTracker, LLMClient, WebSearchClient, outbox
from llm_common.database import Database, connect
from llm_common.database.migrations import up
from llm_common.runs import (
    CommitHook,
    Ended,
    Pipeline,
    Unit,
    UnitRun,
    find_completed,
    find_runs,
    open_run,
    work,
)
from llm_common.testing import ProviderServer
from tests.children import until
from tests.servers import Server, execute, fetch

MANY = 50_000
DAYS = 100
MOST_READ = 3 * MANY // DAYS
"""Rows that one statement may read; a day of the ledger has a third of them."""
USER = UUID(int=1)
MESSAGES = [{"role": "user", "content": "Which county pays for the shelters?"}]
UNIT = Unit(project="test", pipeline="demo", unit_key="unit-77", inputs={"text": "a"})

FILL = f"""
    SET session_replication_role = replica;
    INSERT INTO cost_tracking (model, step, cost_usd, timestamp, accounted_on, project, user_id)
        SELECT 'm' || n % 5, 'step', 0.001, now() - n % {DAYS} * interval '1 day',
               (now() AT TIME ZONE 'UTC')::date - n % {DAYS}, 'test', 'u' || n % 100
        FROM generate_series(1, {MANY}) n;
    INSERT INTO llm_outbox (project, topic, key, body, state, finished_at)
        SELECT 'test', 'alert', n::text, '{{}}', 'delivered', now()
        FROM generate_series(1, {MANY}) n;
    INSERT INTO llm_outbox (project, topic, key, body)
        SELECT 'test', 'alert', 'due ' || n, '{{}}' FROM generate_series(1, 5) n;
    INSERT INTO web_search_cache (cache_key, query, results, project, class, expires_at,
                                  stale_until, result_count)
        SELECT md5(n::text), 'query ' || n, '[]', 'test', 'reference', now() + interval '1 day',
               now() + interval '2 days', 0
        FROM generate_series(1, {MANY}) n;
    INSERT INTO llm_response_cache (cache_key, project, model, results, cached_at, expires_at)
        SELECT md5(n::text), 'test', 'm', '{{}}', now(), now() + interval '1 day'
        FROM generate_series(1, {MANY}) n;
    INSERT INTO conversations (user_id, role, content, project, seq)
        SELECT '{USER}', 'user', 'said', 'test', n FROM generate_series(1, {MANY}) n;
    INSERT INTO conversations (user_id, role, content, project, seq)
        SELECT gen_random_uuid(), 'user', 'said', 'test', 1 FROM generate_series(1, {MANY}) n;
    INSERT INTO pipeline_runs (status, project, pipeline_name, unit_key, input_hash, completed_at)
        SELECT 'completed', 'test', 'demo', 'unit-' || n, md5(n::text), now()
        FROM generate_series(1, {MANY}) n;
    INSERT INTO pipeline_steps (run_id, step, key, project, input_hash, version, state, output,
                                started_at, finished_at)
        SELECT id, 'one', '', 'test', md5(unit_key), 1, 'done', '1', now(), now()
        FROM pipeline_runs;
    INSERT INTO llm_holds (hold_id, project, operation_id, attempt_no, bound_nano, state, answer,
                           ledger_row, limits, expires_at)
        SELECT gen_random_uuid(), 'test', gen_random_uuid(), 1, 1, 'settled', '{{}}', '{{}}', '[]',
               now() + interval '1 hour'
        FROM generate_series(1, {MANY}) n;
    INSERT INTO pipeline_jobs (id, project, pipeline, status, options, total, started_at)
        VALUES ('large', 'test', 'jobs', 'running', '{{}}', {MANY}, now());
    INSERT INTO pipeline_runs (status, project, pipeline_name, unit_key, input_hash, job_id,
                               ordinal, input)
        SELECT 'queued', 'test', 'jobs', 'unit-' || n, md5(n::text), 'large', n, '{{}}'
        FROM generate_series(1, {MANY}) n;
    INSERT INTO llm_units (run_id, job_id, ordinal, fence)
        SELECT id, job_id, ordinal, fence FROM pipeline_runs WHERE job_id = 'large';
    ANALYZE;
"""
WATCH = """
    ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain';
    ALTER DATABASE {0} SET auto_explain.log_min_duration = 0;
    ALTER DATABASE {0} SET auto_explain.log_nested_statements = on;
    ALTER DATABASE {0} SET auto_explain.log_analyze = on;
    ALTER DATABASE {0} SET auto_explain.log_timing = off;
    ALTER DATABASE {0} SET auto_explain.log_format = 'json';
    ALTER DATABASE {0} SET plan_cache_mode = '{1}';
"""
PLAN = re.compile(r"LOG:  duration: .*? plan:\n(\t\{.*?\n\t\})\n", re.DOTALL)


@dataclass(frozen=True)
class Scan:
    """One reading of a table by a statement.

    Attributes:
        read: rows, those that were read in vain included.
    """

    how: str
    table: str
    index: str
    read: float


def scans(log: str) -> Iterator[tuple[str, list[Scan]]]:
    """Yield each statement of the log with its readings of tables."""
    for match in PLAN.finditer(log):
        explained = json.loads(match[1].replace("\n\t", "\n"))
        found: list[Scan] = []
        nodes = [explained["Plan"]]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            vain = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
            read = (node["Actual Rows"] + vain) * node["Actual Loops"]
            if "Scan" in node["Node Type"]:
                table, index = node.get("Relation Name", ""), node.get("Index Name", "")
                found.append(Scan(node["Node Type"], table, index, read))
        yield explained["Query Text"], found


class Filled:
    """A filled database, and what was explained since the last look."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._log = Path(str(conninfo_to_dict(url)["host"])) / "log"
        self._seen = 0
        self.new()

    def new(self) -> str:
        written = self._log.read_text(encoding="utf-8")
        new, self._seen = written[self._seen :], len(written)
        return new


@pytest.fixture(scope="module", params=["auto", "force_generic_plan"])
def filled(request: pytest.FixtureRequest, pg15: Server) -> Iterator[Filled]:
    """A plan for the arguments at hand, as of the first calls, or the one for any, as later."""
    with pg15.database() as url:
        asyncio.run(up(url))
        execute(url, FILL)
        name = str(conninfo_to_dict(url)["dbname"])
        pg15.execute(WATCH.format(name, request.param))
        yield Filled(url)


async def claims(db: Database) -> None:
    async def send(_: outbox.Message) -> None: ...

    delivered = await outbox.deliver(db, ["test"], outbox.Channel("test", send))
    assert delivered.arrived <= 5


async def remembers(db: Database) -> None:
    memory = ConversationMemory(db, USER, max_history=20)
    await memory.save_message("user", "and this")
    assert len(await memory.get_context()) == 20


async def sums_up(db: Database) -> None:
    costs, today = CostTracker(db), datetime.now(UTC).date()
    assert await costs.get_daily_cost(today) > 0
    assert len(await costs.get_cost_breakdown(today, today, group_by="model")) >= 1
    await costs.aclose()


async def pays(db: Database) -> None:
    costs = CostTracker(db, daily_budget_usd=1_000)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES, user="u1")
    await costs.aclose()


async def asks_again(db: Database) -> None:
    costs = CostTracker(db)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for _ in range(2):
        await llm.complete(MESSAGES, cache_ttl_s=60)
    await costs.aclose()


async def searches(db: Database) -> None:
    costs = CostTracker(db)
    search = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    for _ in range(2):
        await search.search("query 77")
    await search.aclose()
    await costs.aclose()


async def finds_a_step(db: Database) -> None:
    async def one(**_: Any) -> str:
        return "done"

    async with open_run(db, UNIT) as run:
        assert await run.step("one", one, {"x": 1}) == "done"


async def finds_a_run(db: Database) -> None:
    assert await find_runs(db, "test", pipeline="demo", unit_key="unit-78")
    await find_completed(db, UNIT)
    (newest, *_) = found = await find_runs(db, "test", limit=20)
    assert len(found) == 20
    assert [run["id"] for run in await find_runs(db, "test", run_id=newest["id"][:20])]


async def works_on_a_job(db: Database) -> None:
    """Of a job as large as the tables: claims, steps, ends and signs of life, until 30 are done."""
    ended: list[Ended] = []

    async def one() -> str:
        return "done"

    async def unit(run: UnitRun, _: object) -> object:
        return await run.step("one", one, {})

    async def count(some: Sequence[Ended]) -> None:
        ended.extend(some)

    pipeline = Pipeline("jobs", unit)
    # Its last act would be to count the whole job.
    working = asyncio.create_task(
        work(db, "test", "large", pipeline, slots=10, on_commit=CommitHook(10, count))
    )
    await until(lambda: len(ended) >= 30 or working.done())
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert {one.status for one in ended} == {"completed"}


Work = Callable[[Database], Awaitable[None]]
HOT: list[tuple[Work, set[str]]] = [
    (claims, {"llm_outbox_pending"}),
    (remembers, {"idx_conversations_order", "idx_conversations_message"}),
    (sums_up, {"idx_cost_project_day"}),
    (pays, {"idx_cost_operation", "idx_cost_project_day"}),
    (asks_again, {"llm_response_cache_pkey"}),
    (searches, {"web_search_cache_pkey"}),
    (finds_a_step, {"idx_pipeline_steps_answer", "idx_pipeline_runs_unit"}),
    (finds_a_run, {"idx_pipeline_runs_unit"}),
    (works_on_a_job, {"llm_units_order", "llm_units_held", "idx_pipeline_steps_answer"}),
]


@pytest.mark.parametrize(("path", "indexes"), HOT, ids=lambda value: getattr(value, "__name__", ""))
async def test_no_statement_of_a_hot_path_reads_a_whole_table(
    fake: ProviderServer, filled: Filled, path: Work, indexes: set[str]
) -> None:
    filled.new()
    await path(connect(filled.url))
    statements = list(scans(filled.new()))
    assert statements
    slow = [
        (scan, query)
        for query, found in statements
        for scan in found
        if scan.read > MOST_READ or (scan.how == "Seq Scan" and scan.read > DAYS)
    ]
    assert slow == []
    assert indexes <= {scan.index for _, found in statements for scan in found}


def test_a_whole_table_that_is_read_is_noticed(filled: Filled) -> None:
    filled.new()
    fetch(filled.url, "SELECT count(*) FROM llm_outbox WHERE channel = 'never'")
    ((query, (scan,)),) = scans(filled.new())
    assert "never" in query
    assert (scan.how, scan.table, scan.read) == ("Seq Scan", "llm_outbox", MANY + 5)
