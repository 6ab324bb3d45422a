"""Answers that are out of date: served while one refresh runs, and where an engine fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from supabase import create_client

from llm_common import admin
from llm_common.cache import Owner, Produced, WindowCache, Windows, flush
from llm_common.cache.windowed import Ask, Codec, is_tidied_by
from llm_common.context import labels
from llm_common.cost_tracker import CostTracker
from llm_common.database import Database, connect
from llm_common.database.migrations import up
from llm_common.errors import (
    AuthenticationError,
    BudgetExceededError,
    DatabaseUnavailableError,
)
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.web_search import WebSearchClient
from llm_common.web_search.asking import lease_of
from tests import children, servers
from tests.held import Held
from tests.postgrest import SupabaseLite

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

QUERY = "shelter tax Kern"
STALE = "UPDATE web_search_cache SET expires_at = now() - interval '1 s'"
"""The fresh window is over."""
OLD = f"{STALE}, stale_until = now() - interval '1 s'"
"""The stale window is over too; what is left is for failures."""


@pytest.fixture
async def client(costs: CostTracker) -> AsyncIterator[WebSearchClient]:
    """A client that asks the database every time."""
    lent = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    yield lent
    await lent.aclose()


def changed(title: str) -> Answer:
    return Answer(json={"search_result": [{"title": title, "link": "https://a.example"}]})


async def test_a_stale_answer_comes_at_once_and_one_refresh_runs_behind_it(
    fake: ProviderServer, costs: CostTracker, database_url: str, ledger: Ledger
) -> None:
    client = WebSearchClient(engine=[held := Held()], cost_tracker=costs, memory_cache_ttl=0)
    first = await client.search(QUERY)
    servers.execute(database_url, STALE)
    held.may_answer.clear()
    fake.script(changed("new"))
    with labels(step="reading"):
        answers = await asyncio.gather(*(client.answer(QUERY) for _ in range(20)))
    assert [a.results for a in answers] == [first] * 20
    assert {(a.source, a.cost_usd) for a in answers} == {("stale", Decimal(0))}
    held.may_answer.set()
    await client.aclose()
    assert len(fake.requests) == 2
    fresh = await client.answer(QUERY)
    assert ([r.title for r in fresh.results], fresh.source) == (["new"], "database")
    # The refresh is paid for by whoever asked first.
    assert [(r["step"], r["cost_usd"]) for r in await ledger()] == [
        (None, Decimal("0.01")),
        ("reading", Decimal("0.01")),
    ]
    stats = await client.get_cache_stats()
    assert (stats["stale"], stats["cache_hits"], stats["paid_searches"]) == (20, 21, 2)
    await client.aclose()


WORKER = """
# Its engine asks once the file of GO is there, if one is named.
import asyncio, os, sys
from pathlib import Path
from llm_common import CostTracker, WebSearchClient
from llm_common.search import ZaiSearch

class Engine(ZaiSearch):
    async def search(self, query, endpoint, *, timeout_s):
        while "GO" in os.environ and not Path(os.environ["GO"]).exists():
            await asyncio.sleep(0.02)
        return await super().search(query, endpoint, timeout_s=timeout_s)

async def main():
    if "SUPABASE_URL" in os.environ:
        from supabase import create_client
        from llm_common.database.supabase import SupabaseDatabase
        names = "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"
        # Its calls take turns, and each waits on its own time.
        db = SupabaseDatabase(create_client(*map(os.environ.get, names)), deadline_s=120)
    else:
        db = os.environ["DATABASE_URL"]
    costs = CostTracker(db)
    client = WebSearchClient(engine=[Engine()], cost_tracker=costs)
    at_once = int(os.environ["AT_ONCE"])
    found = await asyncio.gather(*(client.answer("shelter tax Kern") for _ in range(at_once)))
    alike = all(f.results == found[0].results for f in found)
    print(len(found[0].results), alike, *sorted({f.source for f in found}), flush=True)
    await client.aclose()
    await costs.aclose()

asyncio.run(main())
"""


async def run_workers(count: int, **environment: str) -> list[str]:
    started = [await children.start(WORKER, **environment) for _ in range(count)]
    return [await children.output(process) for process in started]


async def test_200_searches_of_four_processes_are_one_request(
    fake: ProviderServer, client: WebSearchClient, database_url: str, ledger: Ledger
) -> None:
    fake.latency_s = 2
    said = await run_workers(4, DATABASE_URL=database_url, AT_ONCE="50")
    assert [line.split()[:2] for line in said] == [["3", "True"]] * 4
    assert len(fake.requests) == 1
    assert [r["cost_usd"] for r in await ledger()] == [Decimal("0.01")]
    stats = await client.get_cache_stats()
    assert (stats["total_searches"], stats["paid_searches"]) == (200, 1)
    assert stats["coalesced"] >= 49


async def test_through_postgrest_as_well(
    fake: ProviderServer, supabase_lite: SupabaseLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = f"search-{uuid4()}"
    monkeypatch.setenv("LLM_COMMON_PROJECT", project)
    environment = {
        "SUPABASE_URL": supabase_lite.url,
        "SUPABASE_SERVICE_ROLE_KEY": supabase_lite.secret_key,
        "AT_ONCE": "50",
    }
    fake.latency_s = 2
    said = await run_workers(2, **environment)
    assert [line.split()[:2] for line in said] == [["3", "True"]] * 2
    assert len(fake.requests) == 1
    supabase = create_client(supabase_lite.url, supabase_lite.secret_key)
    costs = CostTracker(supabase_client=supabase, project=project)
    client = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    stats = await client.get_cache_stats()
    assert (stats["total_searches"], stats["paid_searches"]) == (100, 1)
    servers.execute(supabase_lite.database_url, f"{STALE} WHERE project = '{project}'")
    assert (await client.answer(QUERY)).source == "stale"
    await client.aclose()
    assert len(fake.requests) == 2
    assert (await client.answer(QUERY)).source == "database"
    (reference,) = await admin.search_cache_report(costs.db, project)
    assert (reference.stale, reference.saved_usd) == (1, Decimal("1.01"))
    await client.aclose()
    await costs.aclose()
    supabase.postgrest.session.close()


async def test_one_refresh_over_processes(
    fake: ProviderServer,
    client: WebSearchClient,
    database_url: str,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    await client.search(QUERY)
    servers.execute(database_url, STALE)
    environment = {"DATABASE_URL": database_url, "AT_ONCE": "10", "GO": str(tmp_path / "go")}
    started = [await children.start(WORKER, **environment) for _ in range(3)]
    # The refresh runs until all of them have been served.
    said = [await process.stdout.readline() for process in started if process.stdout]
    assert said == [b"3 True stale\n"] * 3
    (tmp_path / "go").touch()
    assert [await children.output(process) for process in started] == [""] * 3
    assert len(fake.requests) == 2
    assert len(await ledger()) == 2


async def test_the_lease_of_a_killed_refresher_is_given_up(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    await client.search(QUERY)
    servers.execute(database_url, STALE)
    fake.latency_s = 60
    async with children.killed(WORKER, DATABASE_URL=database_url, AT_ONCE="1"):
        await children.until(lambda: len(fake.requests) == 2)
        fake.latency_s = 0
    # While it is stale, it still serves; when it is not, the lease of the dead is taken over.
    assert (await client.answer(QUERY)).source == "stale"
    servers.execute(database_url, OLD)
    async with asyncio.timeout(lease_of(1) / 2):
        assert (await client.answer(QUERY)).source == "none"
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "faults", [[Fault.status(500)] * 3, [Fault.status(401)], [Fault.html()] * 3], ids=str
)
async def test_an_old_answer_stands_in_for_a_failure(
    fake: ProviderServer,
    client: WebSearchClient,
    database_url: str,
    faults: list[Fault],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = await client.search(QUERY)
    servers.execute(database_url, OLD)
    fake.script(*faults)
    with caplog.at_level(logging.WARNING, "llm_common"):
        answer = await client.answer(QUERY)
    assert (answer.results, answer.source) == (first, "stale")
    assert len(fake.requests) == 1 + len(faults)
    (line,) = [m for m in caplog.messages if m.startswith("search.stale_if_error")]
    assert QUERY not in caplog.text
    assert servers.fetch(database_url, "SELECT left(cache_key, 12) FROM web_search_cache") == [
        (line.split("key=")[1].split()[0],)
    ]
    # For a while nobody asks the engine again.
    assert (await client.answer(QUERY)).source == "stale"
    assert len(fake.requests) == 1 + len(faults)
    servers.execute(database_url, "UPDATE web_search_cache SET refresh_after = now()")
    assert (await client.answer(QUERY)).source == "none"


async def test_nothing_stands_in_for_ever(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    await client.search(QUERY)
    servers.execute(database_url, f"{OLD}, error_until = now() - interval '1 s'")
    fake.script(Fault.status(401))
    with pytest.raises(AuthenticationError):
        await client.search(QUERY)
    with pytest.raises(AuthenticationError):
        fake.script(Fault.status(401))
        await client.search(QUERY)


async def test_a_refused_budget_is_no_failure_of_the_engine(
    fake: ProviderServer, db: Database, database_url: str
) -> None:
    costs = CostTracker(db, daily_budget_usd="0.01")
    client = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    await client.search(QUERY)
    servers.execute(database_url, OLD)
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            await client.search(QUERY)
    servers.execute(
        database_url, "UPDATE web_search_cache SET stale_until = now() + interval '1 min'"
    )
    assert (await client.answer(QUERY)).source == "stale"
    await client.aclose()
    assert len(fake.requests) == 1


async def test_a_refresh_that_fails_leaves_the_answer_and_rests(
    fake: ProviderServer,
    client: WebSearchClient,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = await client.search(QUERY)
    servers.execute(database_url, STALE)
    fake.script(Fault.status(401))
    with caplog.at_level(logging.WARNING, "llm_common"):
        assert await client.search(QUERY) == first
        await client.aclose()
    assert "search.refresh_failed" in caplog.text
    assert await client.search(QUERY) == first
    await client.aclose()
    assert len(fake.requests) == 2
    servers.execute(database_url, "UPDATE web_search_cache SET refresh_after = now()")
    await client.search(QUERY)
    await client.aclose()
    assert len(fake.requests) == 3


async def test_nothing_found_is_negative_and_never_stale(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    for _ in range(3):
        assert await client.search("nothing of the sort anywhere") == []
    assert len(fake.requests) == 1
    stats = await client.get_cache_stats()
    assert (stats["negative"], stats["cache_hits"]) == (2, 2)
    assert servers.fetch(
        database_url,
        "SELECT stale_until = expires_at, error_until = expires_at FROM web_search_cache",
    ) == [(True, True)]


async def test_the_report_says_what_was_saved_by_class(
    fake: ProviderServer, client: WebSearchClient, costs: CostTracker
) -> None:
    for _ in range(3):
        await client.search(QUERY)
    for _ in range(2):
        await client.search("latest shelter tax Kern")
    await client.search("shelter tax Kern", domains=["kern.gov"])
    today = datetime.now(UTC).date()
    report = {row.query_class: row for row in await admin.search_cache_report(costs.db, "test")}
    assert set(report) == {"news", "official", "reference"}
    assert (report["reference"].fresh, report["reference"].entries) == (2, 1)
    assert report["reference"].saved_usd == Decimal("0.02")
    assert (report["news"].hits, report["news"].saved_usd) == (1, Decimal("0.01"))
    assert (report["official"].hits, report["official"].saved_usd) == (0, 0)
    same = await admin.search_cache_report(costs.db, "test", today, today)
    assert {row.query_class: row for row in same} == report
    assert await admin.search_cache_report(costs.db, "other") == []


async def test_a_batch_that_is_sent_twice_counts_once(db: Database, database_url: str) -> None:
    one = {"cache_key": "k", "project": "test", "class": "news", "cost_usd": "0.5", "fresh": 2}
    batch = {"batch_id": str(uuid4()), "counts": [one, {**one, "cost_usd": None}]}
    for _ in range(2):
        assert await db.call("llm_search_count", batch) == {"counted": True}
    assert servers.fetch(
        database_url, "SELECT class, fresh, saved_usd::text, unpriced FROM llm_search_counts"
    ) == [("news", 4, "1.000000000000", 2)]


class Away:
    """A database that does not answer when hits are counted."""

    def __init__(self, db: Database) -> None:
        self.identity, self.aclose, self._db, self.is_away = db.identity, db.aclose, db, True

    async def call(self, function: str, payload: Any) -> Any:
        answer = await self._db.call(function, payload)
        if function == "llm_search_count" and self.is_away:
            raise DatabaseUnavailableError("away, after it was counted")
        return answer


async def test_counts_wait_for_a_database_that_is_away_and_count_once(
    fake: ProviderServer, db: Database
) -> None:
    away = Away(db)
    client = WebSearchClient(cost_tracker=CostTracker(away))
    for _ in range(3):
        await client.search(QUERY)
    await client.aclose()
    with pytest.raises(DatabaseUnavailableError):
        await flush(away)
    away.is_away = False
    assert (await client.get_cache_stats())["cache_hits"] == 2


async def test_hits_write_no_row(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    await client.search(QUERY)
    row = "SELECT xmin::text, ctid::text, hit_count FROM web_search_cache"
    before = servers.fetch(database_url, row)
    for _ in range(5):
        await client.search(QUERY)
    assert servers.fetch(database_url, row) == before
    await client.aclose()
    assert servers.fetch(database_url, "SELECT hit_count FROM web_search_cache") == [(5,)]


def tidy_key(number: int) -> str:
    """Return a key whose fill looks after the bound."""
    key = f"{number:056x}00000000"
    assert is_tidied_by(key)
    return key


async def test_fills_hold_a_project_to_its_bound(db: Database, database_url: str) -> None:
    codec = Codec(str, tuple)
    owner = Owner("here", lambda _: None)
    cache = WindowCache(db, owner, codec, memory_s=0, work=set(), most_entries=3)

    async def fill(number: int, project: str = "test") -> None:
        async def produce() -> Produced[str]:
            return Produced(["found"], None)

        about = {"project": project, "query": "q", "engine": "e", "params": {}, "class": "news"}
        key = tidy_key(number)
        await cache.get(Ask(key, about, produce, lambda _: Windows(60, 60, 60), 5))

    for number in range(3):
        await fill(number)
        await fill(100 + number, "other")
    servers.execute(
        database_url,
        f"UPDATE web_search_cache SET last_hit_at = now() WHERE cache_key = '{tidy_key(0)}'",
    )
    for number in range(3, 5):
        await fill(number)
    left = servers.fetch(
        database_url, "SELECT cache_key FROM web_search_cache WHERE project = 'test' ORDER BY 1"
    )
    assert left == [(tidy_key(0),), (tidy_key(3),), (tidy_key(4),)]
    others = "SELECT count(*) FROM web_search_cache WHERE project = 'other'"
    assert servers.fetch(database_url, others) == [(3,)]


async def test_tidying_goes_by_batches_and_leaves_leases(db: Database, database_url: str) -> None:
    servers.execute(
        database_url,
        "INSERT INTO web_search_cache (cache_key, project, query, results, cached_at, expires_at,"
        " lease_until) SELECT 'k' || n, 'test', 'q', '[]', now() - n * interval '1 min',"
        " now() + interval '1 day', CASE WHEN n = 9 THEN now() + interval '1 min' END"
        " FROM generate_series(0, 9) n",
    )
    ask = {"project": "test", "most": 4, "batch": 4}
    assert await db.call("llm_search_tidy", ask) == {"deleted": 4}
    assert await db.call("llm_search_tidy", ask) == {"deleted": 2}
    assert await db.call("llm_search_tidy", ask) == {"deleted": 0}
    left = servers.fetch(database_url, "SELECT cache_key FROM web_search_cache ORDER BY 1")
    assert left == [("k0",), ("k1",), ("k2",), ("k9",)]


async def test_a_library_of_the_release_before_gets_what_it_knows(
    fake: ProviderServer, client: WebSearchClient, db: Database, database_url: str
) -> None:
    about = {"cache_key": "k", "project": "test", "query": "q", "engine": "zai", "params": {}}
    claim = {**about, "owner": "old/1", "lease_s": 60, "take_over": None}
    assert await db.call("llm_search_claim", claim) == {"state": "yours"}
    waiting = await db.call("llm_search_claim", {**claim, "owner": "old/2"})
    assert (waiting["state"], waiting["lease_owner"]) == ("wait", "old/1")
    fill = {"cache_key": "k", "owner": "old/1", "results": [{"a": 1}], "ttl_s": 60}
    assert await db.call("llm_search_fill", fill) == {"stored": True}
    hit = await db.call("llm_search_claim", claim)
    assert (hit["state"], hit["results"], "cached_at" in hit) == ("hit", [{"a": 1}], True)
    counted = {"project": "test", "memory_hits": {"k": 4}}
    stats = await db.call("llm_search_stats", counted)
    assert (stats["cache_hits"], stats["paid"], stats["entries"]) == (5, 0, 1)
    servers.execute(
        database_url, f"{STALE}, stale_until = now() + interval '1 min', lease_owner = NULL"
    )
    assert await db.call("llm_search_claim", claim) == {"state": "yours"}


async def test_closing_waits_for_the_refreshes_of_a_pipelines_own_client(
    fake: ProviderServer, costs: CostTracker, db: Database, database_url: str
) -> None:
    client = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0)
    other = client.with_tracker(CostTracker(db))
    await other.search(QUERY)
    servers.execute(database_url, STALE)
    fake.latency_s = 0.3
    await other.search(QUERY)
    await client.aclose()
    assert len(fake.requests) == 2
    # What the second one counted is written, too.
    assert servers.fetch(database_url, "SELECT stale FROM llm_search_counts") == [(1,)]
    assert (await other.answer(QUERY)).source == "database"


async def test_an_engine_that_is_away_is_not_asked_by_everybody_who_waits(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    await client.search(QUERY)
    servers.execute(database_url, OLD)
    fake.script(*[Fault.status(500)] * 3)
    answers = await asyncio.gather(*(client.answer(QUERY) for _ in range(10)))
    assert {len(a.results) for a in answers} == {3}
    assert len(fake.requests) == 4


async def test_the_oldest_supported_postgres_keeps_the_same_cache(pg15: servers.Server) -> None:
    with pg15.database() as url:
        await up(url)
        db = connect(url)
        lease = {"cache_key": "k", "owner": "here/1"}
        about = {"project": "test", "query": "q", "engine": "zai", "params": {}, "class": "news"}
        claim = {**about, **lease, "lease_s": 3600, "take_over": None}
        assert await db.call("llm_search_claim", claim) == {"state": "yours"}
        windows = {"ttl_s": 3600, "stale_s": 3600, "error_s": 7200}
        fill = {**lease, **windows, "results": [{"a": 1}], "class": "news", "cost_usd": "0.01"}
        assert await db.call("llm_search_fill", fill) == {"stored": True}
        hit = await db.call("llm_search_read", {"cache_key": "k", "covering": False})
        assert (hit["state"], hit["cost_usd"], hit["refresh"]) == ("hit", "0.010000000000", False)
        assert 3000 < hit["fresh_s"] <= 3600
        servers.execute(url, STALE)
        stale = await db.call("llm_search_read", {"cache_key": "k", "covering": False})
        assert (stale["state"], stale["refresh"]) == ("stale", True)
        refresh = {**claim, "owner": "here/2", "refresh": True}
        assert await db.call("llm_search_claim", refresh) == {"state": "yours"}
        busy = await db.call("llm_search_read", {"cache_key": "k", "covering": False})
        assert (busy["state"], busy["refresh"]) == ("stale", False)
        end = {"cache_key": "k", "owner": "here/2", "rest_s": 3600}
        assert await db.call("llm_search_release", end) == {"released": True}
        assert await db.call("llm_search_claim", refresh) == {"state": "done"}
        counts = [{**about, "cache_key": "k", "cost_usd": "0.01", "stale": 3}]
        await db.call("llm_search_count", {"batch_id": str(uuid4()), "counts": counts})
        (row,) = await admin.search_cache_report(db, "test")
        assert (row.stale, row.saved_usd, row.entries) == (3, Decimal("0.03"), 1)
        tidied = {"project": "test", "most": 0, "batch": 10}
        assert await db.call("llm_search_tidy", tidied) == {"deleted": 1}
        await db.aclose()
