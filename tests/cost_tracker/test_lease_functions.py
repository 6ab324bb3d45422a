"""What the database grants ahead of calls, and what becomes of it."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from llm_common.cost_tracker.leases import EVERYTHING
from tests import servers
from tests.cost_tracker.money import (
    CENT,
    Callers,
    counters,
    day_limit,
    estimate,
    ledger_sum,
    request,
    row,
)

OWNER = "me"
BIG = day_limit("100")
"""One per cent of it is a dollar."""


def lease(cents: int = 100, owner: str = OWNER, **changes: Any) -> dict[str, Any]:
    """A lease to ask for."""
    return {
        "lease_id": str(uuid4()),
        "owner": owner,
        "wish_nano": cents * CENT,
        "floor_nano": 2 * CENT,
        "use_s": 60,
        "ttl_s": 300,
        **changes,
    }


async def take(call: Callers, wanted: dict[str, Any], *requests: Any, **more: Any) -> Any:
    return await call("llm_reserve", lease=wanted, requests=list(requests), **more)


def said(wanted: dict[str, Any], cents: int, *, closed: bool = True) -> dict[str, Any]:
    """What an owner states of a lease."""
    return {
        "lease_id": wanted["lease_id"],
        "project": "p",
        "owner": wanted["owner"],
        "returned_nano": cents * CENT if cents >= 0 else EVERYTHING,
        "is_closed": closed,
    }


def leased(wanted: dict[str, Any], asked: dict[str, Any], cost: str, **changes: Any) -> Any:
    """The row of a call that was served from a lease."""
    part = {"lease_id": wanted["lease_id"], "bound_nano": asked["bound_nano"]}
    return row(asked["row"]["operation_id"], cost, **part, **changes)


def left(url: str) -> list[tuple[str, int]]:
    return servers.fetch(url, "SELECT state, left_nano FROM llm_leases ORDER BY ends_at")


def let_expire(url: str) -> None:
    servers.execute(url, "UPDATE llm_leases SET expires_at = clock_timestamp()")


def day(url: str) -> tuple[Decimal, int]:
    return counters(url)["project", "p", "day"]


async def test_one_grant_serves_calls_as_far_as_it_goes_and_holds_the_others(
    url: str, call: Callers
) -> None:
    wanted = lease(5)
    asks = [request("", BIG, cents=cents) for cents in (3, 3, 2)]
    answer = await take(call, wanted, *asks)
    assert [result.get("lease_id") for result in answer["results"]] == [
        wanted["lease_id"],
        None,
        wanted["lease_id"],
    ]
    assert all(result["granted"] for result in answer["results"])
    assert answer["lease"]["granted_nano"] == 5 * CENT
    assert day(url) == (0, 8 * CENT)
    again = await take(call, wanted, *asks)
    assert [r.get("lease_id") for r in again["results"]] == [
        r.get("lease_id") for r in answer["results"]
    ]
    assert day(url) == (0, 8 * CENT), "asked again, it was granted twice"


@pytest.mark.parametrize(
    ("limits", "cents"),
    [
        ([BIG], 100),
        ([BIG, day_limit("50", "tag", "t")], 50),
        ([day_limit("50", "tag", "t"), BIG], 50),
        ([day_limit("2")], 2),
    ],
)
async def test_a_lease_is_one_per_cent_of_the_smallest_limit_at_most(
    url: str, call: Callers, limits: list[Any], cents: int
) -> None:
    answer = await take(call, lease(9999), request("", *limits))
    assert answer["lease"]["granted_nano"] == cents * CENT
    assert {held for _, held in counters(url).values()} == {cents * CENT}


async def test_it_is_a_quarter_of_an_even_share_of_what_remains_at_most(
    url: str, call: Callers
) -> None:
    await call("llm_settle", rows=[row(cost="99")])
    granted = []
    for owner in ("a", "b", "a", "b"):
        answer = await take(call, lease(999, owner), request("", BIG))
        granted.append(answer["lease"]["granted_nano"])
    dollar = 100 * CENT
    assert granted == [
        dollar // 4,
        (dollar - sum(granted[:1])) // 8,
        (dollar - sum(granted[:2])) // 8,
        (dollar - sum(granted[:3])) // 8,
    ]


async def test_too_small_a_lease_is_none(url: str, call: Callers) -> None:
    answer = await take(call, lease(5), request("", day_limit("1.99")))
    assert answer["lease"] is None
    assert answer["results"][0]["granted"]
    assert "lease_id" not in answer["results"][0]
    assert left(url) == []


async def test_a_call_that_has_a_hold_keeps_it(url: str, call: Callers) -> None:
    asked = request("", BIG)
    await call("llm_reserve", requests=[asked])
    answer = await take(call, lease(10), asked)
    assert "lease_id" not in answer["results"][0]
    assert day(url) == (0, 11 * CENT)


async def test_a_settled_call_keeps_its_cost_only_at_most_its_bound(
    url: str, call: Callers
) -> None:
    wanted = lease(10)
    asks = [request("", BIG, cents=2) for _ in range(3)]
    await take(call, wanted, *asks)
    first = leased(wanted, asks[0], "0.0000000001")
    dear = leased(wanted, asks[1], "0.05", over_hold=True)
    await call("llm_settle", rows=[first, dear])
    assert left(url) == [("open", 10 * CENT - 1 - 2 * CENT)]
    assert day(url) == (Decimal("0.0500000001"), 8 * CENT - 1)
    await call("llm_settle", rows=[first, dear, leased(wanted, asks[0], "0.02")])
    assert left(url) == [("open", 8 * CENT - 1)]
    late = estimate(asks[2]["row"]["operation_id"], "0.02")
    await call("llm_settle", rows=[late | {"lease_id": wanted["lease_id"], "bound_nano": 2 * CENT}])
    await call("llm_settle", rows=[leased(wanted, asks[2], "0.001")])
    assert left(url) == [("open", 6 * CENT - 1)], "an estimate took its bound for good"
    assert day(url) == (Decimal("0.0510000001"), 6 * CENT - 1)


async def test_what_is_given_back_counts_once(url: str, call: Callers) -> None:
    wanted = lease(10)
    await take(call, wanted, request("", BIG))
    for cents in (4, 4, 2, 6, 4):
        await call("llm_settle", rows=[], leases=[said(wanted, cents)])
    assert left(url) == [("open", 4 * CENT)]
    answer = await call("llm_settle", rows=[], leases=[said(wanted, -1)] * 2)
    assert answer["leases"][0] == {
        "lease_id": wanted["lease_id"],
        "left_nano": 0,
        "recalled": False,
    }
    assert day(url) == (0, 0)


async def test_a_lease_given_back_before_its_grant_is_never_granted(
    url: str, call: Callers
) -> None:
    wanted = lease()
    await call("llm_settle", rows=[], leases=[said(wanted, -1)])
    answer = await take(call, wanted, request("", BIG))
    assert answer["lease"] is None
    assert answer["results"][0]["granted"]
    assert day(url) == (0, CENT)


async def test_nothing_more_is_served_from_a_lease_that_was_given_back(
    url: str, call: Callers
) -> None:
    wanted = lease(10)
    await take(call, wanted, request("", BIG))
    await call("llm_settle", rows=[], leases=[said(wanted, -1)])
    assert (await take(call, wanted, request("", BIG)))["lease"] is None


async def test_an_owner_that_is_not_heard_of_is_charged_once(url: str, call: Callers) -> None:
    wanted = lease(10)
    labels = {"scope": "tag", "scope_id": "t", "window": "total", "limit_usd": "100"}
    model = {"scope": "model", "scope_id": "m", "window": "month", "limit_usd": "100"}
    await take(call, wanted, request("", BIG, labels, model))
    let_expire(url)
    await asyncio.gather(*(call("llm_expire_holds", project="p") for _ in range(5)))
    assert await call("llm_expire_holds", project="p") == {"expired": 0}
    assert left(url) == [("lost", 10 * CENT)]
    assert set(counters(url).values()) == {(Decimal("0.1"), 0)}
    query = "SELECT kind, status, cost_source, error_class, cost_usd, tags, requested_model FROM "
    assert servers.fetch(url, query + "cost_tracking") == [
        ("lease_loss", "estimated", "estimated", "LeaseExpired", Decimal("0.1"), ["t"], "m")
    ]


async def test_an_owner_that_comes_back_is_charged_what_it_used(url: str, call: Callers) -> None:
    wanted, asked = lease(10), request("", BIG, cents=2)
    await take(call, wanted, asked)
    let_expire(url)
    await call("llm_settle", rows=[row(project="p", cost="0")])
    assert day(url) == (Decimal("0.1"), 0), "a settlement charges what expired"
    await call("llm_settle", rows=[leased(wanted, asked, "0.005")])
    assert day(url) == (Decimal("0.1"), 0)
    assert ledger_sum(url, "kind = 'lease_loss'") == Decimal("0.095")
    await call("llm_settle", rows=[], leases=[said(wanted, 3)])
    assert day(url) == (Decimal("0.07"), 0)
    for _ in range(2):
        await call("llm_settle", rows=[], leases=[said(wanted, -1)])
    assert day(url) == (Decimal("0.005"), 0) == (ledger_sum(url), 0)
    loss = "SELECT status, cost_source FROM cost_tracking WHERE kind = 'lease_loss'"
    assert servers.fetch(url, loss) == [("ok", "unsent")]


async def test_a_refusal_calls_leases_back_and_is_final_when_they_have_answered(
    url: str, call: Callers
) -> None:
    wanted = lease(100)
    await take(call, wanted, request("", BIG))
    asked = request("", BIG, cents=9950, patient=True)
    first = (await call("llm_reserve", requests=[asked]))["results"][0]
    assert (first["granted"], first["recalling"]) == (False, True)
    answer = await call("llm_settle", rows=[], leases=[said(wanted, 0, closed=False)])
    assert answer["leases"][0]["recalled"]
    await call("llm_settle", rows=[], leases=[said(wanted, 49)])
    final = (await call("llm_reserve", requests=[asked]))["results"][0]
    assert (final["granted"], "recalling" in final) == (False, False), "what is left is in use"
    await call("llm_settle", rows=[], leases=[said(wanted, 99)])
    again = {**asked, "hold_id": str(uuid4())}
    assert (await call("llm_reserve", requests=[again]))["results"][0]["granted"]


async def test_nobody_leases_what_somebody_waits_for(url: str, call: Callers) -> None:
    wanted = lease(100)
    await take(call, wanted, request("", BIG))
    await call("llm_reserve", requests=[request("", BIG, cents=9950, patient=True)])
    await call("llm_settle", rows=[], leases=[said(wanted, -1)])
    recalled = "UPDATE llm_leases SET recalled_at = clock_timestamp()"
    # However long this test takes, they wait for another minute.
    servers.execute(url, f"{recalled} + interval '1 minute'")
    answer = await take(call, lease(10), request("", BIG))
    assert answer["lease"] is None
    assert answer["results"][0]["granted"]
    servers.execute(url, f"{recalled} - interval '2 seconds'")
    assert (await take(call, lease(10), request("", BIG)))["lease"]


async def test_it_waits_for_no_lease_that_does_not_concern_it(url: str, call: Callers) -> None:
    wanted = lease(100)
    await take(call, wanted, request("", BIG))
    other = day_limit("0.01", "task", "t")
    asked = request("", other, cents=2, patient=True)
    refused = (await call("llm_reserve", requests=[asked]))["results"][0]
    assert (refused["granted"], "recalling" in refused) == (False, False)
    answer = await call("llm_settle", rows=[], leases=[said(wanted, 0, closed=False)])
    assert not answer["leases"][0]["recalled"]


async def test_it_waits_a_second_for_an_owner_that_does_not_answer(url: str, call: Callers) -> None:
    await take(call, lease(100), request("", BIG))
    asked = request("", BIG, cents=9950, patient=True)
    assert (await call("llm_reserve", requests=[asked]))["results"][0]["recalling"]
    servers.execute(url, "UPDATE llm_leases SET recalled_at = recalled_at - interval '1 second'")
    assert "recalling" not in (await call("llm_reserve", requests=[asked]))["results"][0]


async def test_a_lease_ends_with_the_day_of_its_project(url: str, call: Callers) -> None:
    ((offset,),) = servers.fetch(
        url, "SELECT extract(epoch FROM (clock_timestamp() AT TIME ZONE 'UTC')::time)::int"
    )
    # A zone where it is half a minute before midnight; to Postgres, plus is west of Greenwich.
    west = (offset + 30) % 86_400
    zone = f"<x>{west // 3600}:{west // 60 % 60:02}:{west % 60:02}"
    servers.execute(url, f"INSERT INTO llm_projects VALUES ('p', '{zone}')")
    month = {**day_limit("100"), "window": "month"}
    answer = await take(call, lease(), request("", month))
    assert 20 < answer["lease"]["lasts_s"] <= 31
    ((today,),) = servers.fetch(url, "SELECT llm_today('p')")
    assert date.fromisoformat(answer["lease"]["accounted_on"]) == today


def test_a_zone_that_does_not_exist_is_refused(url: str) -> None:
    servers.execute(url, "INSERT INTO llm_projects VALUES ('p', 'Europe/Vienna')")
    with pytest.raises(psycopg.errors.CheckViolation, match="llm_projects_timezone_check"):
        servers.execute(url, "UPDATE llm_projects SET timezone = 'Europe/Atlantis'")


async def test_what_is_over_goes_after_a_day(url: str, call: Callers) -> None:
    for _ in range(2):
        asked = request("", day_limit("0.02"))
        await call("llm_reserve", requests=[asked])
    await call("llm_settle", rows=[row(asked["row"]["operation_id"])])
    refused = request("", day_limit("0.02"), cents=5)
    await call("llm_reserve", requests=[refused])
    wanted = lease()
    await take(call, wanted, request("", day_limit("100", "tag", "t")))
    await call("llm_settle", rows=[], leases=[said(wanted, -1)])
    states = "SELECT state FROM llm_holds UNION ALL SELECT 'lease' FROM llm_leases ORDER BY 1"
    before = servers.fetch(url, states)
    assert before == [("held",), ("lease",), ("refused",), ("settled",)]
    await call("llm_settle", rows=[])
    assert servers.fetch(url, states) == before
    for table in ("llm_holds", "llm_leases"):
        servers.execute(url, f"UPDATE {table} SET expires_at = expires_at - interval '25 hours'")
    await call("llm_settle", rows=[])
    assert servers.fetch(url, states) == [("held",)]


async def test_other_days_are_not_locked(url: str, call: Callers) -> None:
    """A settlement waits for the windows that its rows fall into, not for every day there is."""
    await call("llm_reserve", requests=[request("", day_limit())])
    servers.execute(
        url,
        "INSERT INTO llm_budget_counters SELECT project, scope, scope_id, window_kind,"
        " '2020-01-01', limit_usd FROM llm_budget_counters",
    )
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute(
            "SELECT 1 FROM llm_budget_counters WHERE window_start = '2020-01-01' FOR UPDATE"
        )
        async with asyncio.timeout(60):
            await call("llm_settle", rows=[row()])
    assert ledger_sum(url) == Decimal("0.01")


async def test_a_late_final_row_counts_where_its_estimate_did(url: str, call: Callers) -> None:
    """Whatever labels and day it comes with."""
    asked = request("", day_limit(), day_limit("9", "user", "u"))
    await call("llm_reserve", requests=[asked])
    operation = asked["row"]["operation_id"]
    await call("llm_settle", rows=[estimate(operation) | {"user_id": "u"}])
    await call("llm_settle", rows=[row(operation, "0.02", accounted_on="2020-01-01")])
    assert counters(url) == {
        ("project", "p", "day"): (Decimal("0.02"), 0),
        ("user", "u", "day"): (Decimal("0.02"), 0),
    }
