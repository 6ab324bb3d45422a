"""`cache_ttl_s`: the very same question is paid for once; failures are never an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from llm_common import CostTracker, LLMClient, LLMResponse
from llm_common.database import Database, connect
from llm_common.errors import (
    DatabaseUnavailableError,
    InvalidInputError,
    LLMCommonError,
    ProviderUnavailableError,
    ResponseValidationError,
)
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage
from tests import children, servers

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]
USED = Usage(input_tokens=100, output_tokens=20, cached_input_tokens=30)
TOOLS = [
    {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
]
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


class County(BaseModel):
    name: str
    beds: int = 0


class Renamed(BaseModel):
    """Does not come back from JSON as it was."""

    name: str = Field(validation_alias="name", serialization_alias="name")
    secret: str = Field(default="", exclude=True)


@pytest.fixture
def llm(costs: CostTracker) -> LLMClient:
    return LLMClient("openai", model="gpt-4o", cost_tracker=costs)


async def test_the_same_question_is_paid_for_once(
    fake: ProviderServer, llm: LLMClient, ledger: Ledger
) -> None:
    fake.script(Answer(text="Kern", usage=USED))
    first = await llm.complete(MESSAGES, cache_ttl_s=60, step="a")
    again = await llm.complete(MESSAGES, cache_ttl_s=60, step="b")
    assert len(fake.requests) == 1
    assert not first.cached
    changed = {"cached", "cost_usd", "cost_source", "attempts", "latency_ms"}
    assert again.model_dump(exclude=changed) == first.model_dump(exclude=changed)
    assert (again.cached, again.cost_usd, again.cost_source, again.attempts) == (
        True,
        0,
        "cache",
        0,
    )
    assert again.usage == USED
    (row,) = await ledger()
    assert str(row["operation_id"]) == again.operation_id
    assert row["step"] == "a"


async def test_models_and_tool_calls_come_back_as_they_were(
    fake: ProviderServer, llm: LLMClient
) -> None:
    fake.script(Answer(json={"name": "Kern", "beds": 12}))
    fake.script(Answer(tool_calls=[("look", {"where": "Kern"})]))
    for _ in range(2):
        county = await llm.chat(MESSAGES, response_model=County, cache_ttl_s=60)
        assert county == County(name="Kern", beds=12)
        assert type(county) is County
        response = await llm.complete(MESSAGES, tools=TOOLS, cache_ttl_s=60)
        assert [call.name for call in response.tool_calls] == ["look"]
        assert response.message["tool_calls"]
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": [{"role": "user", "content": MESSAGES[0]["content"].lower()}]},
        {"messages": [*MESSAGES, {"role": "user", "content": "Now"}]},
        {"model": "gpt-4o-mini"},
        {"response_model": County},
        {"temperature": 0.5},
        {"seed": 1},
        {"max_tokens": 99},
        {"tools": TOOLS},
        {"extra": {"user": "u"}},
    ],
)
async def test_everything_that_matters_makes_another_question(
    fake: ProviderServer, llm: LLMClient, changed: dict[str, Any]
) -> None:
    fake.script(Answer(text="Kern"))
    await llm.complete(MESSAGES, cache_ttl_s=60)
    fake.script(Answer(json={"name": "Kern"}))
    other = await llm.complete(**{"messages": MESSAGES, "cache_ttl_s": 60, **changed})
    assert not other.cached
    assert len(fake.requests) == 2


async def test_another_project_and_another_endpoint_ask_for_themselves(
    fake: ProviderServer, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project in ("one", "two"):
        llm = LLMClient("openai", model="gpt-4o", cost_tracker=CostTracker(db, project=project))
        assert not (await llm.complete(MESSAGES, cache_ttl_s=60)).cached
    monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url("openai") + "/")
    assert not (await llm.complete(MESSAGES, cache_ttl_s=60)).cached
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    assert (await llm.complete(MESSAGES, cache_ttl_s=60)).cached


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ([Fault.status(503)] * 3, ProviderUnavailableError),
        ([Answer(json={"beds": "none"})] * 3, ResponseValidationError),
    ],
)
async def test_a_failure_is_no_answer(
    fake: ProviderServer, llm: LLMClient, script: list[Any], error: type[LLMCommonError]
) -> None:
    fake.script(*script)
    with pytest.raises(error):
        await llm.complete(MESSAGES, response_model=County, cache_ttl_s=60)
    fake.script(Answer(json={"name": "Kern"}))
    assert not (await llm.complete(MESSAGES, response_model=County, cache_ttl_s=60)).cached


@pytest.mark.parametrize(
    "answer", [Answer(text="Ke", finish_reason="length"), Answer(json={"name": "K", "secret": "s"})]
)
async def test_what_is_cut_off_or_would_come_back_changed_is_not_kept(
    fake: ProviderServer, llm: LLMClient, answer: Answer
) -> None:
    model = Renamed if answer.json else None
    for _ in range(2):
        fake.script(answer)
        assert not (await llm.complete(MESSAGES, response_model=model, cache_ttl_s=60)).cached


async def test_an_answer_lasts_for_its_time(
    fake: ProviderServer, llm: LLMClient, database_url: str
) -> None:
    await llm.complete(MESSAGES, cache_ttl_s=60)
    query = "SELECT round(extract(epoch FROM expires_at - cached_at)) FROM llm_response_cache"
    assert servers.fetch(database_url, query) == [(60,)]
    servers.execute(database_url, "UPDATE llm_response_cache SET expires_at = now()")
    assert not (await llm.complete(MESSAGES, cache_ttl_s=60)).cached
    servers.execute(database_url, "UPDATE llm_response_cache SET expires_at = now()")
    servers.execute(database_url, "SELECT cleanup_response_cache()")
    assert servers.fetch(database_url, "SELECT count(*) FROM llm_response_cache") == [(0,)]


async def test_callers_at_once_pay_once_and_hits_are_counted(
    fake: ProviderServer, costs: CostTracker, database_url: str
) -> None:
    fake.script(Answer(text="Kern", latency_s=0.2))
    clients = [LLMClient("openai", model="gpt-4o", cost_tracker=costs) for _ in range(3)]
    answers: list[LLMResponse[Any]] = await asyncio.gather(
        *(llm.complete(MESSAGES, cache_ttl_s=60) for llm in clients for _ in range(4))
    )
    assert len(fake.requests) == 1
    assert {a.text for a in answers} == {"Kern"}
    assert sum(not a.cached for a in answers) == 1
    assert servers.fetch(database_url, "SELECT hit_count FROM llm_response_cache") == [(2,)]


async def test_the_prompt_is_not_stored(llm: LLMClient, fake: ProviderServer, database_url: str):
    fake.script(Answer(text="Kern"))
    await llm.complete(MESSAGES, cache_ttl_s=60)
    ((row,),) = servers.fetch(database_url, "SELECT c::text FROM llm_response_cache c")
    assert "Kern" in row
    assert "shelters" not in row


WAITS = """
import asyncio
from llm_common import CostTracker, LLMClient
llm = LLMClient("openai", model="gpt-4o", cost_tracker=CostTracker())
messages = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]
asyncio.run(llm.complete(messages, cache_ttl_s=60))
"""


async def test_the_lease_of_a_killed_process_is_taken_over(
    fake: ProviderServer, llm: LLMClient, database_url: str
) -> None:
    fake.script(Answer(text="late", latency_s=60), Answer(text="Kern"))
    async with children.killed(WAITS, DATABASE_URL=database_url):
        await children.until(lambda: len(fake.requests) == 1)
    # Not seen to be dead, it would be waited for for minutes.
    async with asyncio.timeout(60):
        assert await llm.chat(MESSAGES, cache_ttl_s=60) == "Kern"


async def test_without_the_database_nothing_is_sent(fake: ProviderServer) -> None:
    away = connect("postgresql://nobody@127.0.0.1:1/nothing")
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=CostTracker(away))
    with pytest.raises(DatabaseUnavailableError):
        await llm.chat(MESSAGES, cache_ttl_s=60)
    assert fake.requests == []


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf")])
async def test_a_time_to_live_is_seconds_above_zero(llm: LLMClient, ttl_s: float) -> None:
    with pytest.raises(InvalidInputError, match="cache_ttl_s must be seconds"):
        await llm.chat(MESSAGES, cache_ttl_s=ttl_s)


async def test_a_stream_is_not_cached(llm: LLMClient) -> None:
    with pytest.raises(InvalidInputError, match="a stream is not cached"):
        llm.stream(MESSAGES, cache_ttl_s=60)
