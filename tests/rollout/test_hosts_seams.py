"""Streams, blocks, a decorator and FastAPI: the ways in which a host lets a rollout choose."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request

from llm_common import LLMClient
from llm_common.context import current
from llm_common.errors import BudgetExceededError
from llm_common.integrations.fastapi import exposed
from llm_common.rollout import Exposure
from tests.servers import fetch


async def items(*found, then: Exception | None = None):
    for item in found:
        yield item
    if then is not None:
        raise then


async def outcomes(rollout, url):
    await rollout._recorder.flush()
    return fetch(
        url,
        "SELECT e.arm, e.reason, o.status, o.error_class FROM llm_rollout_exposures e"
        " LEFT JOIN llm_rollout_outcomes o ON o.exposure_id = e.id ORDER BY e.seq",
    )


def read(stream):
    async def all_items():
        return [item async for item in stream]

    return all_items()


async def test_a_stream_of_the_units_arm(rollout, set_to, database_url):
    await set_to("off")
    assert await read(rollout.stream("u", old=lambda: items("o"), new=lambda: items("n"))) == ["o"]
    await set_to("on")
    assert await read(rollout.stream("u", old=lambda: items("o"), new=lambda: items("n"))) == ["n"]
    assert await outcomes(rollout, database_url) == [
        ("old", "off", "ok", None),
        ("new", "on", "ok", None),
    ]


async def test_a_stream_that_fails_before_its_first_item_goes_back(rollout, set_to, database_url):
    await set_to("on")
    failing = items(then=RuntimeError("at once"))
    stream = rollout.stream("u", old=lambda: items("a", "b"), new=lambda: failing)
    assert await read(stream) == ["a", "b"]
    assert await outcomes(rollout, database_url) == [
        ("new", "on", "error", "RuntimeError"),
        ("old", "fell_back", "ok", None),
    ]


async def test_a_stream_that_breaks_later_breaks(rollout, set_to, database_url):
    await set_to("on")
    failing = items("a", then=RuntimeError("later"))
    stream = rollout.stream("u", old=lambda: items("o"), new=lambda: failing)
    assert await anext(stream) == "a"
    with pytest.raises(RuntimeError, match="later"):
        await anext(stream)
    assert await outcomes(rollout, database_url) == [("new", "on", "error", "RuntimeError")]


async def test_a_budget_ends_a_stream(rollout, set_to):
    await set_to("on")
    refused = items(then=BudgetExceededError("too dear"))
    with pytest.raises(BudgetExceededError):
        await read(rollout.stream("u", old=lambda: items("o"), new=lambda: refused))


async def test_who_leaves_a_stream_cancels_it(rollout, set_to, database_url):
    await set_to("on")
    stream = rollout.stream("u", old=lambda: items("o"), new=lambda: items("a", "b"))
    async with aclosing(stream) as left:
        assert await anext(left) == "a"
    assert await outcomes(rollout, database_url) == [("new", "on", "cancelled", "GeneratorExit")]


async def test_the_labels_of_a_stream_stay_inside(rollout, set_to):
    async def labels():
        for _ in range(2):
            yield current().arm

    await set_to("on")
    stream = rollout.stream("u", old=labels, new=labels)
    async for arm in stream:
        assert arm == "new"
        assert current().arm is None


async def test_two_streams_of_one_task(rollout, set_to, database_url):
    await set_to("on")
    one = rollout.stream("u", old=lambda: items(), new=lambda: items(1, 3))
    two = rollout.stream("v", old=lambda: items(), new=lambda: items(2, 4))
    seen = [await anext(one), await anext(two), await anext(one), await anext(two)]
    assert seen == [1, 2, 3, 4]
    for stream in (two, one):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert [row[2] for row in await outcomes(rollout, database_url)] == ["ok", "ok"]


async def test_the_price_of_an_old_stream_is_the_hosts_to_say(rollout, set_to, database_url, costs):
    await set_to("off")
    stream = rollout.stream(
        "u", old=lambda: items("ab", "c"), new=lambda: items(), old_cost=lambda i: len("".join(i))
    )
    assert await read(stream) == ["ab", "c"]
    await asyncio.gather(*rollout._background)
    await rollout._recorder.flush()
    await costs.flush()
    assert fetch(database_url, "SELECT cost_usd FROM llm_rollout_outcomes") == [(3,)]
    assert fetch(database_url, "SELECT cost_usd, arm FROM cost_tracking") == [(3, "old")]


async def test_a_price_that_fails_fails_no_request(rollout, set_to, database_url, caplog):
    await set_to("off")
    old_arm = lambda: asyncio.sleep(0, "served")  # noqa: E731
    for cost in (lambda _: {}["no"], lambda _: "much", lambda _: -1):
        assert await rollout.run("u", old=old_arm, new=old_arm, old_cost=cost) == "served"
    await rollout._recorder.flush()
    assert fetch(database_url, "SELECT cost_usd FROM llm_rollout_outcomes") == [(None,)] * 3
    assert caplog.text.count("rollout.not_priced") == 1


async def test_the_new_arms_calls_are_its_cost(rollout, set_to, database_url, fake, costs, ledger):
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)

    async def ask():
        return await llm.chat([{"role": "user", "content": "hello"}])

    await set_to("on")
    assert await rollout.run("u", old=ask, new=ask)
    await rollout._recorder.flush()
    (row,) = await ledger()
    assert row["arm"] == "new"
    assert fetch(database_url, "SELECT cost_usd FROM llm_rollout_outcomes") == [(row["cost_usd"],)]


async def test_a_block_of_the_hosts_own(rollout, set_to, database_url):
    await set_to("on")
    async with rollout.exposure("u") as shown:
        assert (shown.arm, shown.reason, current().arm) == ("new", "on", "new")
    with pytest.raises(RuntimeError):
        async with rollout.exposure("u"):
            raise RuntimeError
    assert [row[2:] for row in await outcomes(rollout, database_url)] == [
        ("ok", None),
        ("error", "RuntimeError"),
    ]


async def test_a_decorated_function(rollout, set_to):
    async def old_analysis(bill_id: str, *, text: str = "") -> str:
        return f"old {bill_id} {text}"

    @rollout.instead_of(old_analysis, unit=lambda bill_id, **_: bill_id)
    async def analyse(bill_id: str, *, text: str = "") -> str:
        """The new one."""
        return f"new {bill_id} {text}"

    assert (analyse.__name__, analyse.__doc__) == ("analyse", "The new one.")
    assert await analyse("SB-9", text="a") == "old SB-9 a"
    await set_to("on")
    assert await analyse("SB-9", text="a") == "new SB-9 a"


async def test_fastapi(rollout, set_to, database_url):
    app = FastAPI()

    def user(request: Request) -> object:
        return request.headers.get("x-user")

    def about(request: Request) -> dict[str, str]:
        return {"plan": request.headers.get("x-plan", "")}

    arm_of = exposed(rollout, user, about)

    @app.get("/arm")
    async def arm(shown: Exposure = Depends(arm_of)) -> str:  # noqa: B008 - FastAPI's way
        if shown.unit_id == "bad":
            raise HTTPException(500)
        return f"{shown.arm} {current().arm}"

    gold = {"attribute": "plan", "values": ["gold"], "share": 10_000}
    await set_to("0", segments=[gold])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        assert (await client.get("/arm", headers={"x-user": "u"})).json() == "old old"
        both = {"x-user": "u", "x-plan": "gold"}
        assert (await client.get("/arm", headers=both)).json() == "new new"
        assert (await client.get("/arm")).json() == "old old"
        bad = {"x-user": "bad", "x-plan": "gold"}
        assert (await client.get("/arm", headers=bad)).status_code == 500
    assert await outcomes(rollout, database_url) == [
        ("old", "hash", "ok", None),
        ("new", "segment", "ok", None),
        ("new", "segment", "error", "HTTPException"),
    ]
