"""Where a call goes: keys, other providers, cooldowns, circuits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.calls import Operation, Target, operate
from llm_common.context import Labels
from llm_common.database import Database
from llm_common.errors import (
    BudgetExceededError,
    MissingKeyError,
    ProviderUnavailableError,
    RateLimitedError,
)
from llm_common.limits import circuit, gate
from llm_common.routing import Policy
from llm_common.testing import Fault, ProviderServer
from llm_common.types import Lane
from tests import children
from tests.servers import fetch

MESSAGES = [{"role": "user", "content": "Which county pays for the shelters under this bill?"}]
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def two_keys(fake: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-one")
    monkeypatch.setenv("OPENAI_API_KEY_2", "key-two")


def keys(fake: ProviderServer) -> list[str]:
    """The keys of the requests so far."""
    return [request.headers["authorization"].removeprefix("Bearer ") for request in fake.requests]


@pytest.mark.usefixtures("two_keys")
async def test_keys_take_turns(fake: ProviderServer, costs: CostTracker) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for _ in range(4):
        await llm.chat(MESSAGES)
    assert keys(fake) == ["key-one", "key-two", "key-one", "key-two"]


@pytest.mark.usefixtures("two_keys")
async def test_calls_at_once_spread_over_the_keys(fake: ProviderServer, costs: CostTracker) -> None:
    fake.latency_s = 0.2
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await asyncio.gather(*(llm.chat(MESSAGES) for _ in range(6)))
    assert sorted(keys(fake)) == ["key-one"] * 3 + ["key-two"] * 3


@pytest.mark.usefixtures("two_keys")
async def test_a_key_that_is_limited_is_left_alone_until_it_is_free(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.rate_limit(6))
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    response = await llm.complete(MESSAGES)
    assert (response.deployment, response.attempts) == ("openai/gpt-4o#2", 2)
    for _ in range(3):
        await llm.chat(MESSAGES)
    assert keys(fake) == ["key-one", *["key-two"] * 4]
    await asyncio.sleep(6.05)
    await llm.chat(MESSAGES)
    assert keys(fake)[-1] == "key-one"
    rows = await ledger()
    assert [(r["kind"], r["key_alias"], r["error_class"]) for r in rows[:3]] == [
        ("first", "OPENAI_API_KEY", "RateLimitedError"),
        ("fallback", "OPENAI_API_KEY_2", None),
        ("first", "OPENAI_API_KEY_2", None),
    ]


ANOTHER = """
import asyncio, sys
from llm_common import CostTracker, LLMClient
from llm_common.limits import shared

shared.PATIENCE_S = 60  # for the database, where the machine is busy

async def main():
    costs = CostTracker()
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    if input_first:
        await llm.chat([{"role": "user", "content": "Hello?"}])
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(2.1)
    print((await llm.complete([{"role": "user", "content": "Hello?"}])).deployment)
    await costs.aclose()

asyncio.run(main())
"""


@pytest.mark.usefixtures("two_keys")
async def test_another_process_of_the_project_skips_it_too(
    fake: ProviderServer, costs: CostTracker, database_url: str
) -> None:
    fake.script(Fault.rate_limit(300))
    await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    code = ANOTHER.replace("input_first", "False")
    assert await children.run(code, DATABASE_URL=database_url) == "openai/gpt-4o#2"
    assert keys(fake) == ["key-one", "key-two", "key-two"]
    # Another project shares nothing but the key.
    other = await children.run(code, DATABASE_URL=database_url, LLM_COMMON_PROJECT="other")
    assert other == "openai/gpt-4o#1"
    ((label,),) = fetch(database_url, "SELECT label FROM llm_cooldowns")
    assert label == "openai/gpt-4o OPENAI_API_KEY"


@pytest.mark.usefixtures("two_keys")
async def test_a_process_that_runs_already_hears_of_it(
    fake: ProviderServer, costs: CostTracker, database_url: str
) -> None:
    code = ANOTHER.replace("input_first", "True")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={**os.environ, "DATABASE_URL": database_url},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert await process.stdout.readline() == b"ready\n"
    fake.script(Fault.rate_limit(300), match=lambda r: "key-two" in r.headers["authorization"])
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    await llm.chat(MESSAGES)
    await llm.chat(MESSAGES)
    # It would be the turn of key two there.
    out, err = await asyncio.wait_for(process.communicate(b"\n"), 120)
    assert out.strip() == b"openai/gpt-4o#1", err
    assert keys(fake).count("key-two") == 1


@pytest.mark.usefixtures("two_keys")
async def test_when_every_key_cools_down_for_long_nothing_is_sent(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.rate_limit(60), Fault.rate_limit(50))
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    with pytest.raises(RateLimitedError, match="status 429"):
        await llm.chat(MESSAGES)
    with pytest.raises(RateLimitedError, match="nothing was sent") as caught:
        await llm.chat(MESSAGES)
    assert 40 < (caught.value.retry_after_s or 0) <= 50
    assert (caught.value.provider, caught.value.model) == ("openai", "gpt-4o")
    assert len(fake.requests) == len(await ledger()) == 2


async def test_a_short_cooldown_of_the_only_key_is_waited_out(
    fake: ProviderServer, costs: CostTracker
) -> None:
    fake.script(*[Fault.rate_limit(0.5)] * 3)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    with pytest.raises(RateLimitedError, match="429"):
        await llm.chat(MESSAGES)
    assert len(fake.requests) == 3
    assert await llm.chat(MESSAGES)


async def test_a_cooling_model_gives_way_to_the_next(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.rate_limit(60), match="gpt-4o-mini")
    llm = LLMClient("openai", cost_tracker=costs)
    for _ in range(2):
        await llm.chat_with_fallback(MESSAGES, models=["gpt-4o-mini", "gpt-4o"])
    assert [r["kind"] for r in await ledger()] == ["first", "fallback", "first"]
    assert [r.model for r in fake.requests] == ["gpt-4o-mini", "gpt-4o", "gpt-4o"]


async def test_other_providers_stand_in(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.status(404, "model_not_found"))
    llm = LLMClient("openai", cost_tracker=costs)
    answer = await llm.chat_with_fallback(
        MESSAGES, models=["openai/gpt-4o", "anthropic/claude-sonnet-4.5"]
    )
    assert answer
    rows = await ledger()
    assert [(r["provider"], r["key_alias"], r["kind"]) for r in rows] == [
        ("openai", "OPENAI_API_KEY", "first"),
        ("anthropic", "ANTHROPIC_API_KEY", "fallback"),
    ]
    assert await costs.get_daily_cost() == fake.invoice.total_usd


async def test_a_provider_without_a_key_is_left_out(
    fake: ProviderServer, costs: CostTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    llm = LLMClient("openai", cost_tracker=costs)
    models = ["anthropic/claude-sonnet-4.5", "gpt-4o"]
    await llm.chat_with_fallback(MESSAGES, models=models)
    assert [r.provider for r in fake.requests] == ["openai"]
    with pytest.raises(MissingKeyError, match="ANTHROPIC_API_KEY"):
        await llm.chat_with_fallback(MESSAGES, models=models[:1])


async def test_a_deployment_that_keeps_failing_is_left_alone(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.script(*[Fault.status(503)] * 5)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match="status 503"):
            await llm.chat(MESSAGES)
    assert len(fake.requests) == circuit.FAILURES == 5
    with pytest.raises(ProviderUnavailableError, match="nothing was sent") as caught:
        await llm.chat(MESSAGES)
    assert 20 < (caught.value.retry_after_s or 0) <= circuit.OPEN_S
    assert len(fake.requests) == len(await ledger()) == 5

    # Half a minute later one request tries, and the others wait for what it finds.
    later = gate().clock
    monkeypatch.setattr(gate(), "clock", lambda: later() + circuit.OPEN_S)
    fake.latency_s = 3
    calls = [asyncio.create_task(llm.chat(MESSAGES)) for _ in range(4)]
    await children.until(lambda: len(fake.requests) == 6)
    fake.latency_s = 0
    await asyncio.sleep(0.15)
    assert len(fake.requests) == 6
    await asyncio.gather(*calls)
    assert len(fake.requests) == 9


async def test_answers_and_refusals_do_not_open_a_circuit(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for fault in [Fault.status(400), Fault.status(503)] * 5:
        fake.script(fault)
        if fault.http_status == 400:
            with pytest.raises(Exception, match="status 400"):
                await llm.chat(MESSAGES)
        else:
            await llm.chat(MESSAGES)
    assert await llm.chat(MESSAGES)


@pytest.mark.usefixtures("two_keys")
async def test_a_budget_error_passes_through(
    fake: ProviderServer, db: Database, ledger: Ledger
) -> None:
    costs = CostTracker(db, daily_budget_usd="0.000001")
    with pytest.raises(BudgetExceededError):
        await LLMClient("openai", cost_tracker=costs).chat_with_fallback(
            MESSAGES, models=["gpt-4o", "gpt-4o-mini"]
        )
    assert fake.requests == []
    assert await ledger() == []


async def test_a_longer_context_takes_what_was_too_long(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    fake.script(Fault.context_length())
    llm = LLMClient("openai", cost_tracker=costs)
    models = ["gpt-4o", "gpt-4o-mini", "gpt-4.1"]
    await llm.chat_with_fallback(MESSAGES, models=models)
    # The second holds no more than the first.
    assert [r.model for r in fake.requests] == ["gpt-4o", "gpt-4.1"]
    assert [r["error_class"] for r in await ledger()] == ["ContextLengthError", None]


@pytest.mark.usefixtures("two_keys")
async def test_a_reask_goes_to_the_key_that_answered(
    fake: ProviderServer, costs: CostTracker
) -> None:
    from pydantic import BaseModel, Field

    from llm_common.testing import Answer

    class Bill(BaseModel):
        sections: int = Field(gt=3)

    wrong, right = Answer(json={"sections": 1}), Answer(json={"sections": 4})
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    fake.script(wrong, right)
    await llm.chat(MESSAGES, response_model=Bill)
    assert keys(fake) == ["key-one"] * 2
    fake.script(wrong, Fault.status(401), right)
    await llm.chat(MESSAGES, response_model=Bill)
    assert keys(fake)[2:] == ["key-two", "key-two", "key-one"]


async def test_what_was_not_sent_was_no_attempt(costs: CostTracker) -> None:
    targets = [Target("p", "m", None, None, None, Lane(name, name, name)) for name in ("u1", "u2")]
    kinds: list[str] = []

    async def try_one(target: Target, kind: str) -> str:
        kinds.append(kind)
        if len(kinds) == 1:
            raise RateLimitedError("there was no room", retry_after_s=60)
        return target.lane.id

    op = Operation(costs, Labels(), "m", 1.0)
    assert await operate(op, targets, try_one, Policy()) == "u2"
    assert kinds == ["first", "first"]


async def test_a_failure_keeps_nothing_alive(costs: CostTracker) -> None:
    """A connection that broke is closed when its frames go, not when memory runs short."""
    target = Target("p", "m", None, None, None, Lane("u3", "u3", "u3"))
    held: list[weakref.ref[Any]] = []

    class Connection: ...

    async def try_one(_: Target, kind: str) -> str:
        connection = Connection()
        held.append(weakref.ref(connection))
        raise ProviderUnavailableError("it broke")

    op = Operation(costs, Labels(), "m", 1.0)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ProviderUnavailableError):
            await operate(op, [target], try_one, Policy(base_s=0))
        assert [ref() for ref in held] == [None] * 3
    finally:
        gc.enable()


def registry(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "registry.toml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("LLM_COMMON_REGISTRY", str(path))


@pytest.mark.usefixtures("two_keys")
async def test_streams_are_in_flight_until_they_are_left(
    fake: ProviderServer, costs: CostTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(tmp_path, "[providers.openai.limits]\nmax_concurrent = 1\n", monkeypatch)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    async with llm.stream(MESSAGES) as first, llm.stream(MESSAGES) as second:
        await anext(first)
        await anext(second)
        third = asyncio.create_task(llm.chat(MESSAGES))
        await asyncio.sleep(0.3)
        assert len(fake.requests) == 2
        assert not third.done()
        await first.aclose()
        assert await third
    assert keys(fake) == ["key-one", "key-two", "key-one"]
