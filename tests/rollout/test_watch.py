"""The guardrails at work: on stored rows, by themselves, with a log and an alert."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from llm_common import Rollout
from llm_common.cost_tracker.alerts import deliver_alerts
from llm_common.errors import RolloutError
from llm_common.rollout import Guardrails, watch
from llm_common.rollout.commands import change, log, ramp_of, standings, wanted
from llm_common.rollout.watch import look
from llm_common.runs import Unit, open_run
from tests import children
from tests.receiver import receiving
from tests.rollout.conftest import FLAG, broken, new, old
from tests.servers import execute, fetch
from tests.support import plans_comparison

QUICK = Guardrails(min_exposures=20)


@pytest.fixture
async def begin(db):
    """Store a state without a process that judges it."""

    async def begin(value="50", **more):
        await db.call("llm_rollout_register", {"project": "test", "flag": FLAG})
        await change(db, "test", FLAG, "set", reason="a test", to=wanted(value) | more)

    return begin


def stored(
    n, *, olds=None, share=5000, new_errors=0, old_errors=0, cost="0.01", new_cost=None, new_ms=1000
):
    """Return a batch of so many exposures of each arm with their outcomes."""
    batch = {"project": "test", "flag": FLAG, "exposures": [], "outcomes": []}
    arms = (
        ("new", n, new_errors, new_cost or cost),
        ("old", n if olds is None else olds, old_errors, cost),
    )
    for arm, number, errors, price in arms:
        for i in range(number):
            id_, unit = str(uuid4()), f"{arm}-{uuid4()}"
            shown = {"id": id_, "revision": 1, "unit_id": unit, "arm": arm, "reason": "hash"}
            batch["exposures"].append(shown | {"share": share, "counted": True})
            outcome = {
                "exposure_id": id_,
                "unit_id": unit,
                "arm": arm,
                "latency_ms": new_ms if arm == "new" else 1000,
            }
            status = "error" if i < errors else "ok"
            batch["outcomes"].append(outcome | {"status": status, "cost_usd": price})
    return batch


async def state_of(db):
    (standing,) = await standings(db, "test", FLAG)
    return standing.state


async def judged(db):
    return await look(db, "test", FLAG, QUICK, at_once=True)


async def test_a_healthy_rollout_is_left_alone(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_errors=2, old_errors=2))
    assert await judged(db) == "advance"
    assert (await state_of(db)).mode == "percent"


async def test_errors_roll_back_with_their_evidence(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_errors=25, old_errors=3))
    assert await judged(db) == "roll_back"
    state = await state_of(db)
    assert (state.mode, "25 of 100" in state.latched) == ("off", True)
    (decision, _) = (await log(db, "test", FLAG)).decisions
    assert (decision.action, decision.actor) == ("roll_back", "guardrails")
    evidence = {finding["name"]: finding for finding in decision.evidence}
    assert evidence["error_rate"]["state"] == "tripped"
    assert evidence["error_rate"]["new"] == 0.25
    assert await judged(db) is None, "who is rolled back is not judged"


async def test_dear_rolls_back_too(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_cost="0.05"))
    assert await judged(db) == "roll_back"
    assert "0.05 USD" in (await state_of(db)).latched


@pytest.mark.parametrize(("new_ms", "verdict"), [(20_000, "advance"), (20_001, "roll_back")])
async def test_slow_rolls_back_too(db, begin, new_ms, verdict):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_ms=new_ms))
    assert await judged(db) == verdict


async def test_units_that_fall_otherwise_than_was_set_hold(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(200, olds=60))
    assert await judged(db) == "hold"


async def test_a_ramp_goes_its_way_under_requests(rollout, db):
    plan = ramp_of("50,100", 25, 0).model_dump(mode="json")
    to = {"mode": "percent", "share": 5000, "ramp": plan}
    await change(db, "test", FLAG, "ramp", reason="a test", to=to)
    async with asyncio.timeout(120):
        while rollout.force.mode != "on":
            price = {"old_cost": lambda _: Decimal("0.01")}
            await rollout.run(f"unit-{uuid4()}", old=old, new=new, **price)
            await asyncio.sleep(0.005)
    actions = [d.action for d in (await log(db, "test", FLAG)).decisions]
    assert actions == ["advance", "ramp"]


async def test_an_outage_of_both_arms_holds(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_errors=30, old_errors=30))
    assert await judged(db) == "hold"


async def test_what_is_on_a_list_is_not_compared(db, begin):
    await begin()
    batch = stored(100, new_errors=60)
    for exposure in batch["exposures"]:
        exposure["counted"] = False
    await db.call("llm_rollout_record", batch)
    assert await judged(db) == "hold"


async def test_a_run_whose_row_is_gone_is_data_loss(db, begin, database_url):
    await begin()
    batch = stored(30)
    batch["outcomes"][0] |= {"run_id": str(uuid4()), "run": {"bill_id": "SB-9"}}
    await db.call("llm_rollout_record", batch)
    assert await judged(db) == "advance"
    execute(database_url, "DELETE FROM pipeline_runs")
    assert await judged(db) == "roll_back"
    assert "gone" in (await state_of(db)).latched


async def test_outcomes_that_never_come_are_data_loss(db, begin, database_url):
    await begin()
    batch = stored(100)
    lost = [o for o in batch["outcomes"] if o["arm"] == "new"][:30]
    batch["outcomes"] = [o for o in batch["outcomes"] if o not in lost]
    await db.call("llm_rollout_record", batch)
    assert await judged(db) == "advance", "they are not due yet"
    execute(
        database_url,
        "ALTER TABLE llm_rollout_exposures DISABLE TRIGGER llm_append_only;"
        "UPDATE llm_rollout_exposures SET shown_at = shown_at - interval '10 minutes'",
    )
    assert await judged(db) == "roll_back"
    assert "lost" in (await state_of(db)).latched


async def test_a_ramp_advances_by_itself(db, begin):
    await begin("off")
    plan = ramp_of("10,50,100", 30, 0).model_dump(mode="json")
    to = {"mode": "percent", "share": 1000, "ramp": plan}
    await change(db, "test", FLAG, "ramp", reason="a test", to=to)
    await db.call("llm_rollout_record", stored(20, olds=180, share=1000))
    assert await judged(db) == "hold", "the step has not had its outcomes"
    await db.call("llm_rollout_record", stored(20, olds=180, share=1000))
    assert await judged(db) == "advance"
    assert (await state_of(db)).share == 5000
    assert await judged(db) == "hold", "a new step begins with nothing"
    await db.call("llm_rollout_record", stored(40))
    assert await judged(db) == "advance"
    state = await state_of(db)
    assert (state.mode, state.share) == ("on", 10_000)
    first, second = (await log(db, "test", FLAG)).decisions[:2]
    assert (first.action, second.action) == ("advance", "advance")
    assert first.reason.startswith("to 100 %")
    assert len(second.evidence) == 6


async def test_at_100_percent_the_limits_alone_decide(db, begin):
    await begin("50")
    await db.call("llm_rollout_record", stored(40))
    await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
    await db.call("llm_rollout_record", stored(100, olds=0, share=10_000, new_errors=2))
    assert await judged(db) == "advance"
    dear = stored(60, olds=0, share=10_000, new_cost="0.09")
    await change(db, "test", FLAG, "set", reason="a test", to=wanted("on"))
    await db.call("llm_rollout_record", dear)
    assert await judged(db) == "roll_back"
    assert "0.09 USD" in (await state_of(db)).latched


async def test_a_step_lasts_its_time(db, begin):
    await begin("off")
    plan = ramp_of("50,100", 30, 1).model_dump(mode="json")
    to = {"mode": "percent", "share": 5000, "ramp": plan}
    await change(db, "test", FLAG, "ramp", reason="a test", to=to)
    await db.call("llm_rollout_record", stored(100))
    assert await judged(db) == "hold"


async def test_an_unknown_cost_does_not_advance(db, begin):
    await begin("off")
    plan = ramp_of("50,100", 30, 0).model_dump(mode="json")
    to = {"mode": "percent", "share": 5000, "ramp": plan}
    await change(db, "test", FLAG, "ramp", reason="a test", to=to)
    await db.call("llm_rollout_record", stored(100, cost=None))
    assert await judged(db) == "hold"


async def test_after_many_outcomes_the_tests_begin_anew(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(1_000, cost=None))
    assert await judged(db) == "hold"
    assert (await log(db, "test", FLAG)).decisions[0].action == "epoch"
    await db.call("llm_rollout_record", stored(60, new_errors=15, old_errors=1))
    assert await judged(db) == "roll_back"


async def test_two_judges_decide_once(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(100, new_errors=40))
    await asyncio.gather(*(judged(db) for _ in range(5)))
    actions = [d.action for d in (await log(db, "test", FLAG)).decisions]
    assert actions.count("roll_back") == 1


async def test_two_judges_advance_once(db, begin):
    await begin("off")
    plan = ramp_of("10,50,100", 30, 0).model_dump(mode="json")
    to = {"mode": "percent", "share": 1000, "ramp": plan}
    await change(db, "test", FLAG, "ramp", reason="a test", to=to)
    await db.call("llm_rollout_record", stored(40, olds=360, share=1000))
    await asyncio.gather(*(judged(db) for _ in range(4)))
    actions = [d.action for d in (await log(db, "test", FLAG)).decisions]
    assert actions.count("advance") == 1


async def test_a_verdict_on_a_state_that_was_changed_meanwhile_counts_no_more(db, begin):
    await begin("10")
    late = {"decision_id": str(uuid4()), "project": "test", "flag": FLAG, "action": "roll_back"}
    why = {"actor": "guardrails", "reason": "late", "to": {"mode": "off"}, "revision": 0}
    assert (await db.call("llm_rollout_decide", late | why))["refused"] == "revision"
    assert (await state_of(db)).mode == "percent"


async def test_one_process_looks_per_interval(db, begin, monkeypatch):
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 600.0)
    await begin()
    assert await look(db, "test", FLAG, QUICK) == "hold"
    assert await look(db, "test", FLAG, QUICK) is None


async def test_a_rollback_latches_until_it_is_reset(rollout, set_to, db):
    await set_to("on")
    for i in range(5):
        await rollout.run(f"unit-{i}", old=old, new=broken)
    await rollout._recorder.flush()
    for value in ("on", "50", "shadow"):
        with pytest.raises(RolloutError, match="rollout reset"):
            await change(db, "test", FLAG, "set", reason="again", to=wanted(value))
    await change(db, "test", FLAG, "set", reason="surely", to=wanted("off"))
    with pytest.raises(RolloutError, match="rollout reset"):
        await change(db, "test", FLAG, "set", reason="again", to=wanted("on"))
    reset = await change(db, "test", FLAG, "reset", reason="mended", to={"mode": "off"})
    assert (reset.mode, reset.latched) == ("off", None)
    await set_to("on")
    assert await rollout.run("u", old=old, new=broken) == "old"
    await rollout._recorder.flush()
    assert (await state_of(db)).latched is None, "failures before the reset count no more"
    assert await rollout.run("u", old=old, new=new) == "new"


async def test_an_unknown_flag_is_named(db):
    with pytest.raises(RolloutError, match="no rollout 'nosuch'"):
        await change(db, "test", "nosuch", "set", reason="a test", to=wanted("on"))


async def test_an_alert_that_is_refused_comes_again(rollout, set_to, db, database_url, monkeypatch):
    await set_to("on")
    async with receiving() as receiver:
        monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", receiver.url)
        receiver.answers = [500]
        for i in range(5):
            await rollout.run(f"unit-{i}", old=old, new=broken)
        await rollout._recorder.flush()
        await rollout._keeper.refresh()
        await rollout.aclose()
        execute(database_url, "UPDATE llm_outbox SET due_at = now()")
        await deliver_alerts(db, ["test"])
        await deliver_alerts(db, ["test"])
    assert len(receiver.bodies) == 2
    assert receiver.bodies[0] == receiver.bodies[1]
    body = receiver.bodies[0]
    assert "was rolled back" in body["text"]
    assert (body["flag"], body["kind"], body["mode"]) == (FLAG, "roll_back", "off")


TRIPS = """
import asyncio, time
from llm_common import Rollout

async def broken():
    raise RuntimeError

async def old():
    return "old"

async def main():
    async with Rollout("bill-analysis") as rollout:
        for i in range(5):
            await rollout.run(f"unit-{i}", old=old, new=broken)
        while rollout.force.reason != "rolled_back":
            await asyncio.sleep(0.01)
        print("rolled back", flush=True)
        time.sleep(600)  # nothing else runs here: the alert stays where it is

asyncio.run(main())
"""


async def test_the_next_process_delivers_what_a_killed_one_raised(
    begin, db, database_url, monkeypatch
):
    await begin("on")
    monkeypatch.setenv("DATABASE_URL", database_url)
    async with receiving() as receiver:
        monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", receiver.url)
        async with children.killed(TRIPS) as process:
            assert process.stdout
            assert await process.stdout.readline() == b"rolled back\n"
        assert receiver.bodies == []
        async with Rollout(FLAG, db):
            pass
        (body,) = receiver.bodies
    assert "failed in a row" in body["text"]


@pytest.mark.parametrize("table", ["exposures", "outcomes", "mismatches", "decisions"])
async def test_what_is_written_stays(db, begin, database_url, table):
    await begin()
    batch = stored(1)
    batch["outcomes"][0] |= {"matched": False, "difference": {"a": 1}}
    await db.call("llm_rollout_record", batch)
    for change_ in (
        f"DELETE FROM llm_rollout_{table}",
        f"UPDATE llm_rollout_{table} SET flag = ''",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            execute(database_url, change_)
    assert fetch(database_url, f"SELECT count(*) > 0 FROM llm_rollout_{table}") == [(True,)]


async def test_retention_leaves_the_decisions(db, begin, database_url):
    await begin()
    await db.call("llm_rollout_record", stored(3))
    execute(database_url, "SELECT cleanup_rollouts('1 day')")
    assert fetch(database_url, "SELECT count(*) FROM llm_rollout_exposures") == [(6,)]
    execute(database_url, "SELECT cleanup_rollouts('0 days')")
    for table, left in (("exposures", 0), ("outcomes", 0), ("decisions", 1)):
        assert fetch(database_url, f"SELECT count(*) FROM llm_rollout_{table}") == [(left,)]


async def test_a_batch_that_is_sent_again_changes_nothing(db, begin, database_url):
    await begin("on")
    batch = stored(3, new_errors=3)
    first = await db.call("llm_rollout_record", batch)
    assert await db.call("llm_rollout_record", batch) == first == {"failures": 3}
    assert fetch(database_url, "SELECT count(*) FROM llm_rollout_outcomes") == [(6,)]


async def test_the_plans_query_compares_the_arms(rollout, set_to, db, database_url):
    await set_to("off")
    await rollout.run("SB-9", old=old, new=new, columns={"bill_id": "SB-9"})
    await rollout._recorder.flush()
    columns = {"bill_id": "SB-9", "research_model": "gpt-4o"}
    async with open_run(db, Unit("test", "bill", "SB-9", {}, columns=columns)) as run:
        await run.finish("completed", quality_score=Decimal("0.80"))
    rows = fetch(database_url, plans_comparison())
    assert sorted(rows, key=str) == [("new", 1, Decimal("0.80")), ("old", 1, None)]


async def test_evidence_is_json(db, begin):
    await begin()
    await db.call("llm_rollout_record", stored(1_000, new_errors=900))
    assert await judged(db) == "roll_back"
    (decision, _) = (await log(db, "test", FLAG)).decisions
    assert json.loads(json.dumps([dict(finding) for finding in decision.evidence]))
