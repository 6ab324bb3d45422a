"""`llm-common rollout`: what people see and decide."""

from __future__ import annotations

import pytest

from llm_common import Rollout
from llm_common.database import connect
from llm_common.rollout import keeper
from tests import children
from tests.rollout.conftest import FLAG, broken, new, old


@pytest.fixture
async def rollout(database_url, monkeypatch):
    """The host of these commands."""
    monkeypatch.setattr(keeper, "LEAST_STALE_S", 600.0)
    monkeypatch.setattr(keeper, "FIRST_WAIT_S", 60.0)
    monkeypatch.setenv("LLM_COMMON_ROLLOUT_POLL_S", "0.1")
    monkeypatch.setenv("LLM_COMMON_PROJECT", "local")
    async with Rollout(FLAG, connect(database_url)) as started:
        yield started


async def test_a_rollout_from_off_to_on(cli, rollout):
    assert "not set" in (await cli("rollout", "status")).out
    ended = await cli("rollout", "set", "12.5", "--reason", "first step", "--deny", "unit-1")
    assert ended.out.strip() == f"{FLAG}: 12.5 %"
    await children.until(lambda: rollout.force.share == 1250)
    for i in range(40):
        await rollout.run(f"unit-{i}", old=old, new=new)
    await rollout._recorder.flush()
    (standing,) = (await cli("rollout", "status", "--json")).json
    assert sum(arm["exposures"] for arm in standing["arms"]) == 40
    assert standing["state"]["deny"] == ["unit-1"]
    assert (await cli("rollout", "set", "on")).code == 0
    kept = (await cli("rollout", "log", "--json")).json["decisions"]
    assert [(d["action"], d["after"]["mode"], d["reason"]) for d in kept] == [
        ("set", "on", "no reason given"),
        ("set", "percent", "first step"),
    ]
    assert kept[0]["before"]["share"] == 1250


async def test_the_kill_switch_stops_all_rollouts(cli, rollout, database_url):
    async with Rollout("chat", connect(database_url)) as chat:
        for flag in (FLAG, "chat"):
            assert (await cli("rollout", "set", "on", "--flag", flag)).code == 0
        await children.until(lambda: (chat.arm("u"), rollout.arm("u")) == ("new", "new"))
        ended = await cli("rollout", "set", "off")
        assert ended.out.splitlines() == [f"{FLAG}: off", "chat: off"]
        await children.until(lambda: (chat.arm("u"), rollout.arm("u")) == ("old", "old"))
        assert "say which with --flag" in (await cli("rollout", "set", "on")).complaint


async def test_a_ramp_and_a_rollback(cli, rollout):
    ended = await cli("rollout", "ramp", "10,100", "--min-exposures", "5", "--min-minutes", "0")
    assert ended.out.strip() == f"{FLAG}: 10 %"
    await cli("rollout", "set", "50")
    ended = await cli("rollout", "ramp", "10,100", "--min-exposures", "5", "--min-minutes", "0")
    assert ended.out.strip() == f"{FLAG}: 50 %", "a ramp moves no unit back"
    await cli("rollout", "set", "on")
    await children.until(lambda: rollout.arm("u") == "new")
    for i in range(5):
        await rollout.run(f"unit-{i}", old=old, new=broken)
    await children.until(lambda: rollout.force.reason == "rolled_back")
    status = (await cli("rollout", "status")).out
    assert "rolled back" in status
    assert "failed in a row" in status
    assert "roll_back" in (await cli("rollout", "log")).out
    refused = await cli("rollout", "set", "10")
    assert refused.code == 2
    assert "rollout reset" in refused.complaint
    assert (await cli("rollout", "reset", "--reason", " ")).code == 2
    assert (await cli("rollout", "reset", "--reason", "mended")).out.strip() == f"{FLAG}: off"
    assert (await cli("rollout", "set", "10")).code == 0


async def test_segments_and_the_shadows_bounds(cli, rollout):
    segment = "jurisdiction=California|Nevada:25"
    assert (await cli("rollout", "set", "1", "--segment", segment, "--allow", "a")).code == 0
    assert (await cli("rollout", "set", "shadow", "--sample", "10", "--daily-usd", "0.5")).code == 0
    ((standing,),) = [(await cli("rollout", "status", "--json")).json]
    state = standing["state"]
    assert state["segments"] == [
        {"attribute": "jurisdiction", "values": ["California", "Nevada"], "share": 2500}
    ]
    assert (state["allow"], state["shadow"]) == (["a"], {"share": 1000, "daily_usd": "0.5"})
    await cli("rollout", "set", "1", "--allow", "", "--segment", "")
    ((standing,),) = [(await cli("rollout", "status", "--json")).json]
    assert (standing["state"]["allow"], standing["state"]["segments"]) == ([], [])
    assert "difference" in (await cli("rollout", "log", "--mismatches")).out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["set", "101"], "a number from 0 to 100, not '101'"),
        (["set", "many"], "set off, shadow, on or a percentage"),
        (["set", "12.345"], "in steps of 0.01"),
        (["set", "10", "--flag", "nosuch"], "no rollout 'nosuch': it has bill-analysis"),
        (["status", "--flag", "nosuch"], "no rollout 'nosuch'"),
        (["ramp", "50,10"], "the steps of a ramp rise"),
        (["ramp", "10,10"], "the steps of a ramp rise"),
        (["ramp", "0,10"], "the steps of a ramp rise"),
        (["ramp", "10,,20"], "a number from 0 to 100"),
        (["ramp", "10,100", "--min-exposures", "0"], "1 exposure or more"),
        (["ramp", "10,100", "--min-minutes", "-1"], "0 minutes or more"),
        (["set", "10", "--segment", "California:10"], "attribute=value:percent"),
        (["set", "10", "--segment", "a=b:120"], "a number from 0 to 100"),
        (["set", "shadow", "--daily-usd", "much"], "--daily-usd must be a number of USD"),
    ],
)
async def test_one_clear_sentence(cli, rollout, arguments, complaint):
    ended = await cli("rollout", *arguments)
    assert ended.code == 2
    assert complaint in ended.complaint


async def test_a_project_without_a_rollout(cli):
    assert "has no rollout" in (await cli("rollout", "status")).out
    assert "has no rollout" in (await cli("rollout", "set", "off")).complaint
