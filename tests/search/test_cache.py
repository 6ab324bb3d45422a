"""One paid search per query, however many ask at once; failures are nobody's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_common.context import labels
from llm_common.cost_tracker import CostTracker
from llm_common.database import Database
from llm_common.errors import (
    BrokenResponseError,
    BudgetExceededError,
    CallError,
    DatabaseUnavailableError,
    ProviderUnavailableError,
    RateLimitedError,
)
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.web_search import WebSearchClient, cache_key
from llm_common.web_search.asking import lease_of
from tests import children, servers

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

QUERY = "shelter tax Kern"


@pytest.fixture
def client(costs: CostTracker) -> WebSearchClient:
    return WebSearchClient(cost_tracker=costs)


async def test_many_at_once_are_one_request(
    fake: ProviderServer, client: WebSearchClient, ledger: Ledger
) -> None:
    fake.latency_s = 0.1
    answers = await asyncio.gather(*(client.search(QUERY) for _ in range(30)))
    assert len(fake.requests) == 1
    assert len(answers[0]) == 3
    assert all(answer == answers[0] for answer in answers)
    assert [(r["kind"], r["cost_usd"]) for r in await ledger()] == [("search", Decimal("0.01"))]


SEARCH = """
import asyncio, os
from llm_common import CostTracker, WebSearchClient

async def main():
    costs = CostTracker(os.environ["DATABASE_URL"])
    client = WebSearchClient(cost_tracker=costs)
    found = await asyncio.gather(*(client.search("shelter tax Kern") for _ in range(5)))
    print(len(found[0]), all(f == found[0] for f in found))
    await costs.aclose()

asyncio.run(main())
"""


async def test_many_processes_at_once_are_one_request(
    fake: ProviderServer, database_url: str, ledger: Ledger
) -> None:
    fake.latency_s = 0.5
    started = [await children.start(SEARCH, DATABASE_URL=database_url) for _ in range(3)]
    assert [await children.output(process) for process in started] == ["3 True"] * 3
    assert len(fake.requests) == 1
    assert len(await ledger()) == 1


async def test_the_third_answer_is_the_first_whatever_was_done_to_it(
    fake: ProviderServer, client: WebSearchClient, costs: CostTracker
) -> None:
    raw = {"link": "https://a.example", "title": "A", "extra": {"list": [1]}}
    fake.script(Answer(json={"search_result": [raw]}))
    (first,) = await client.search(QUERY)
    kept = first.model_copy(deep=True)
    with pytest.raises(ValidationError, match="frozen"):
        first.title = "B"
    for change in (
        lambda: first.raw["extra"]["list"].append(2),
        lambda: first.raw["extra"].update(more=1),
        lambda: first.raw.pop("link"),
    ):
        with pytest.raises(TypeError, match=r"copy\.deepcopy"):
            change()
    kept.raw["extra"]["list"].append(2)
    kept.raw["extra"]["list"].pop()
    (await client.search(QUERY)).clear()
    for reader in (client, client, WebSearchClient(cost_tracker=costs)):
        assert await reader.search(QUERY) == [kept]
    assert len(fake.requests) == 1


async def test_empty_answers_are_kept_for_about_a_minute_and_not_in_memory(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    assert await client.search("nothing of the sort anywhere") == []
    assert await client.search("nothing of the sort anywhere") == []
    assert len(fake.requests) == 1
    ((ttl,),) = servers.fetch(
        database_url, "SELECT extract(epoch FROM expires_at - cached_at)::int FROM web_search_cache"
    )
    assert 54 <= ttl <= 66
    servers.execute(
        database_url, "UPDATE web_search_cache SET expires_at = now(), stale_until = now()"
    )
    assert await client.search("nothing of the sort anywhere") == []
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.rate_limit(0.01), RateLimitedError),
        (Fault.status(500), ProviderUnavailableError),
        (Fault.html(), BrokenResponseError),
    ],
    ids=str,
)
async def test_a_failure_reaches_everybody_who_waits_and_is_not_kept(
    fake: ProviderServer, client: WebSearchClient, fault: Fault, kind: type[CallError]
) -> None:
    fake.script(*[fault] * 3)
    answers = await asyncio.gather(
        *(client.search(QUERY) for _ in range(5)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [kind] * 5
    assert len(fake.requests) == 3
    assert len(await client.search(QUERY)) == 3


async def test_a_waiter_that_is_cancelled_takes_nobody_with_it(
    fake: ProviderServer, client: WebSearchClient
) -> None:
    fake.latency_s = 0.2
    tasks = [asyncio.create_task(client.search(QUERY)) for _ in range(3)]
    await children.until(lambda: len(fake.requests) == 1)
    tasks[0].cancel()
    assert [len(found) for found in await asyncio.gather(*tasks[1:])] == [3, 3]
    assert len(fake.requests) == 1


async def test_a_killed_searcher_is_replaced_at_once(
    fake: ProviderServer, client: WebSearchClient, database_url: str, ledger: Ledger
) -> None:
    fake.latency_s = 60
    async with children.killed(SEARCH, DATABASE_URL=database_url):
        await children.until(lambda: len(fake.requests) == 1)
        fake.latency_s = 0
    # Its lease would last for longer.
    async with asyncio.timeout(lease_of(1) / 2):
        assert len(await client.search(QUERY)) == 3
    assert [r["status"] for r in await ledger()] == ["estimated", "ok"]


async def test_a_searcher_on_another_machine_is_given_up_when_its_lease_ends(
    fake: ProviderServer, client: WebSearchClient, database_url: str
) -> None:
    await client.search(QUERY)
    servers.execute(
        database_url,
        "UPDATE web_search_cache SET results = NULL, state = 'leased', "
        "lease_owner = 'elsewhere:x/y', lease_until = now() + interval '1 hour'",
    )
    other = WebSearchClient(cost_tracker=client.cost_tracker)
    task = asyncio.create_task(other.search(QUERY))
    await asyncio.sleep(0.2)
    assert len(fake.requests) == 1
    servers.execute(database_url, "UPDATE web_search_cache SET lease_until = now()")
    assert len(await task) == 3
    assert len(fake.requests) == 2


async def test_each_layer_keeps_an_answer_for_its_time(
    fake: ProviderServer, costs: CostTracker, database_url: str
) -> None:
    memory_only = WebSearchClient(cost_tracker=costs, memory_cache_ttl=60, db_cache_ttl=0)
    for _ in range(2):
        await memory_only.search(QUERY)
    assert len(fake.requests) == 1
    database_only = WebSearchClient(cost_tracker=costs, memory_cache_ttl=0, db_cache_ttl=60)
    for _ in range(3):
        await database_only.search(QUERY)
    assert len(fake.requests) == 2
    servers.execute(
        database_url, "UPDATE web_search_cache SET expires_at = now(), stale_until = now()"
    )
    await database_only.search(QUERY)
    assert len(fake.requests) == 3


async def test_stats_count_every_client_of_the_project(
    fake: ProviderServer, costs: CostTracker
) -> None:
    one, two = WebSearchClient(cost_tracker=costs), WebSearchClient(cost_tracker=costs)
    empty = await one.get_cache_stats()
    assert (empty["hit_rate"], empty["total_searches"], empty["cache_hits"]) == (0.0, 0, 0)
    for client in (one, one, two, two, two):
        await client.search(QUERY)
    await one.search("shelter tax news")
    fake.script(Fault.status(400))
    with pytest.raises(CallError):
        await one.search("shelter tax past")
    for client in (one, two, one):
        assert await client.get_cache_stats() == {
            "total_searches": 6,
            "cache_hits": 4,
            "paid_searches": 2,
            "entries": 2,
            "hit_rate": pytest.approx(4 / 6),
            "stale": 0,
            "coalesced": 0,
            "negative": 0,
        }
    with labels(project="other"):
        assert (await one.get_cache_stats())["total_searches"] == 0


async def test_projects_share_no_answers(fake: ProviderServer, client: WebSearchClient) -> None:
    await client.search(QUERY)
    with labels(project="other"):
        await client.search(QUERY)
    assert len(fake.requests) == 2


async def test_a_search_is_refused_by_the_same_budget_before_the_wire(
    fake: ProviderServer, db: Database
) -> None:
    costs = CostTracker(db, daily_budget_usd="0.015")
    client = WebSearchClient(cost_tracker=costs)
    await client.search(QUERY)
    with pytest.raises(BudgetExceededError, match=r"\$0\.005 is left"):
        await client.search("another")
    assert len(fake.requests) == 1
    await client.search(QUERY)
    assert await costs.get_daily_cost() == fake.invoice.total_usd == Decimal("0.01")
    (line,) = [b for b in await costs.get_budgets() if b.window == "day"]
    assert line.held_usd == 0


async def test_the_ledger_says_who_searched(
    fake: ProviderServer, client: WebSearchClient, ledger: Ledger
) -> None:
    fake.script(Fault.status(500))
    with labels(step="search", user="u-1", tags=("t",)):
        await client.search(QUERY)
    rows = await ledger()
    assert [(r["kind"], r["status"], r["attempt_no"], r["cost_usd"]) for r in rows] == [
        ("search", "error", 1, 0),
        ("search", "ok", 2, Decimal("0.01")),
    ]
    assert len({r["operation_id"] for r in rows}) == 1
    assert {(r["step"], r["user_id"], r["provider"], *r["tags"]) for r in rows} == {
        ("search", "u-1", "zai", "t")
    }


class Forgetful:
    """A database that is away when an answer is to be kept."""

    def __init__(self, db: Database) -> None:
        self.identity, self.aclose, self._db = db.identity, db.aclose, db

    async def call(self, function: str, payload: Any) -> Any:
        if function in ("llm_search_fill", "llm_search_release"):
            raise DatabaseUnavailableError("away")
        return await self._db.call(function, payload)


async def test_a_paid_answer_reaches_its_caller_though_it_could_not_be_kept(
    fake: ProviderServer, db: Database
) -> None:
    client = WebSearchClient(cost_tracker=CostTracker(Forgetful(db)))
    assert len(await client.search(QUERY)) == 3
    assert len(await client.search(QUERY)) == 3
    assert len(fake.requests) == 1
    fake.script(Fault.status(400))
    with pytest.raises(CallError, match="HTTP 400"):
        await client.search("another")


WORDS = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1, max_size=5)
SPACES = st.text(" \t\n\u00a0\u3000", min_size=1, max_size=3)


def key_of(query: str) -> str:
    return cache_key({"project": "p", "engine": "e", "params": {}, "query": query})


@given(WORDS, SPACES, SPACES)
def test_spaces_do_not_count(words: list[str], one: str, two: str) -> None:
    assert key_of(one + two.join(words)) == key_of(" ".join(words) + two)


@given(st.text("abcXYZ éÉäÄ 0129 ﬁ ½ Ａ", min_size=1))
def test_case_and_compatibility_forms_do_not_count(query: str) -> None:
    import unicodedata

    same = {query, query.upper().lower(), unicodedata.normalize("NFKC", query)}
    same.add(unicodedata.normalize("NFD", query))
    assert len({key_of(q) for q in same}) == 1


@given(WORDS, st.randoms())
def test_the_order_of_words_counts(words: list[str], random: Any) -> None:
    other = words[:]
    random.shuffle(other)
    same = [key_of(a) == key_of(b) for a, b in zip(words, other, strict=True)]
    assert (key_of(" ".join(words)) == key_of(" ".join(other))) == all(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("shelter tax", '"shelter tax"'),
        ("shelter tax", "shelter tax site:leg.ca.gov"),
        ("shelter tax 2025", "shelter tax 2026"),
        ("shelter -tax", "shelter tax"),
        ("shelter tax", "tax shelter"),
        ("sheltertax", "shelter tax"),
    ],
)
def test_what_an_engine_reads_counts(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


@pytest.mark.parametrize("part", ["project", "engine", "params"])
def test_everything_that_decides_the_answer_counts(part: str) -> None:
    about = {"project": "p", "engine": "e", "params": {"count": 1}, "query": "q"}
    assert cache_key(about) != cache_key({**about, part: "other"})
