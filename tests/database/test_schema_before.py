"""This library on the schema before it: what was there goes on, and a job says what it needs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

import pytest

from llm_common import ConversationMemory, CostTracker, LLMClient, Rollout, WebSearchClient
from llm_common.database import SCHEMA, connect, schema_of
from llm_common.database.migrations import down
from llm_common.errors import SchemaError
from llm_common.runs import NewJob, create_job
from llm_common.testing import CorpusDocument, ProviderServer
from tests.servers import fetch

BEFORE = "20261121001500"


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [CorpusDocument("Rent", "https://a.example/", "The council decided on rents.")]


def _name(arm: str) -> Callable[[], Awaitable[str]]:
    async def run() -> str:
        return arm

    return run


async def test_the_schema_before(
    fake: ProviderServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "llm_common")
    await down(database_url, to=BEFORE)
    db = connect(database_url)
    assert await schema_of(db) == SCHEMA - 1
    costs = CostTracker(db, daily_budget_usd=1)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    assert await llm.chat([{"role": "user", "content": "hello"}], cache_ttl_s=60)
    first = await WebSearchClient(cost_tracker=costs).search("council rents")
    assert first
    again = WebSearchClient(cost_tracker=costs)
    assert await again.search("council rents") == first
    assert await again.search("council rents") == first
    assert await again.search("nothing of the kind") == []
    stats = await again.get_cache_stats()
    assert (stats["total_searches"], stats["paid_searches"]) == (4, 2)
    memory = ConversationMemory(db, user_id=str(uuid4()))
    await memory.save_message("user", "hello")
    async with Rollout("bill-analysis", db) as rollout:
        assert await rollout.run("SB-9", old=_name("old"), new=_name("new")) == "old"
    assert [r.getMessage() for r in caplog.records if r.name.startswith("llm_common")] == []
    with pytest.raises(SchemaError, match="jobs need 5"):
        await create_job(db, "batches", NewJob("double"), [])
    await costs.aclose()
    assert fetch(database_url, "SELECT count(*) FROM cost_tracking")[0][0] == 3
