"""What admins ask: what it cost, by what, and which model did best."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from supabase import create_client

from llm_common.errors import DatabaseError
from tests.servers import execute, fetch

RUN = "11111111-1111-1111-1111-111111111111"
LEDGER = f"""
    INSERT INTO pipeline_runs (id, status, quality_score, project)
        VALUES ('{RUN}', 'completed', 0.80, 'bills');
    INSERT INTO cost_tracking
        (accounted_on, model, step, project, user_id, task, run_id, status, cost_usd, tokens_used,
         latency_ms) VALUES
        ('2026-10-31', 'gpt-4o', 'generate', 'bills', 'u1', 'generate', NULL, 'ok', 1.5, 10, 100),
        ('2026-11-01', 'gpt-4o', 'generate', 'bills', 'u1', 'generate', '{RUN}', 'ok',
         0.000000000001, 20, 200),
        ('2026-11-01', 'gpt-4o', 'generate', 'bills', 'u2', 'generate', '{RUN}', 'error', 0, NULL,
         400),
        ('2026-11-01', 'local', 'review', 'chat', NULL, NULL, NULL, 'ok', NULL, 7, NULL),
        ('2026-11-30', 'claude', 'review', 'bills', 'u1', 'review', '{RUN}', 'ok', 0.25, 30, 50);
"""


@pytest.fixture
def url(database_url):
    execute(database_url, LEDGER)
    return database_url


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("get_daily_cost('2026-11-01')", ("0.000000000001", 1)),
        ("get_daily_cost('2026-11-01', 'bills')", ("0.000000000001", 0)),
        ("get_daily_cost('2026-11-02')", ("0", 0)),
        ("get_monthly_cost(2026, 11)", ("0.250000000001", 1)),
        ("get_monthly_cost(2026, 10)", ("1.500000000000", 0)),
        ("get_monthly_cost(2026, 12)", ("0", 0)),
        (
            "get_monthly_cost(target_year => 2026, target_month => 11, target_project => 'chat')",
            ("0", 1),
        ),
    ],
)
def test_sums_of_a_day_and_a_month(url, call, expected):
    assert fetch(url, f"SELECT total_cost::text, unpriced FROM {call}") == [expected]


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("model", {"gpt-4o": (2, 20, 0), "claude": (1, 30, 0), "local": (1, 7, 1)}),
        ("step", {"generate": (2, 20, 0), "review": (2, 37, 1)}),
        ("project", {"bills": (3, 50, 0), "chat": (1, 7, 1)}),
        ("user", {"u1": (2, 50, 0), "u2": (1, 0, 0), None: (1, 7, 1)}),
        ("task", {"generate": (2, 20, 0), "review": (1, 30, 0), None: (1, 7, 1)}),
        ("day", {"2026-11-01": (3, 27, 1), "2026-11-30": (1, 30, 0)}),
        ("run", {RUN: (3, 50, 0), None: (1, 7, 1)}),
        ("status", {"ok": (3, 57, 1), "error": (1, 0, 0)}),
    ],
)
async def test_a_breakdown_adds_up(url, db, group_by, expected):
    payload = {"kind": "breakdown", "start": "2026-11-01", "end": "2026-11-30"}
    rows = (await db.call("llm_costs", {**payload, "group_by": group_by}))["rows"]
    assert {row["key"]: (row["calls"], row["tokens"], row["unpriced"]) for row in rows} == expected
    assert sum(Decimal(row["total_cost"]) for row in rows) == Decimal("0.250000000001")


async def test_days_come_in_order_and_the_rest_by_cost(url, db):
    payload = {"kind": "breakdown", "start": "2026-10-01", "end": "2026-11-30"}
    days = (await db.call("llm_costs", {**payload, "group_by": "day"}))["rows"]
    assert [row["key"] for row in days] == ["2026-10-31", "2026-11-01", "2026-11-30"]
    models = (await db.call("llm_costs", {**payload, "group_by": "model"}))["rows"]
    assert [row["key"] for row in models] == ["gpt-4o", "claude", "local"]


async def test_an_unknown_grouping_is_refused(url, db):
    payload = {"kind": "breakdown", "start": "2026-10-01", "end": "2026-11-30"}
    for group_by in ("password", None):
        with pytest.raises(DatabaseError, match="22023"):
            await db.call("llm_costs", {**payload, "group_by": group_by})


async def test_models_are_compared(url, db):
    payload = {"kind": "compare", "start": "2026-11-01", "end": "2026-11-30"}
    generate = (await db.call("llm_costs", {**payload, "step": "generate"}))["rows"]
    assert generate == [
        {
            "model": "gpt-4o",
            "calls": 2,
            "ok": 1,
            "errors": 1,
            "avg_latency_ms": "300.0",
            "total_cost": "0.000000000001",
            "unpriced": 0,
            "avg_quality": "0.800",
        }
    ]
    every = (await db.call("llm_costs", payload))["rows"]
    assert [row["model"] for row in every] == ["claude", "gpt-4o", "local"]
    assert every[2]["avg_quality"] is None
    assert every[2]["unpriced"] == 1


def test_postgrest_finds_the_functions_by_their_arguments(supabase_lite):
    execute(supabase_lite.database_url, LEDGER)
    client = create_client(supabase_lite.url, supabase_lite.secret_key)
    for function, arguments, expected in (
        ("get_daily_cost", {"target_date": "2026-11-30"}, "0.25"),
        ("get_monthly_cost", {"target_year": 2026, "target_month": 10}, "1.5"),
    ):
        (row,) = client.rpc(function, arguments).execute().data
        # PostgREST answers with a float, its stand-in here with text.
        assert Decimal(str(row["total_cost"])) == Decimal(expected)
        assert row["unpriced"] == 0
    client.postgrest.session.close()


def test_a_day_is_the_projects_own(database_url):
    execute(database_url, "INSERT INTO llm_projects VALUES ('far', 'Pacific/Kiritimati')")
    zones = {"far": ZoneInfo("Pacific/Kiritimati"), "other": UTC}
    for project, zone in zones.items():
        before = datetime.now(zone).date()
        (today,) = fetch(database_url, f"SELECT llm_today('{project}')")[0]
        assert before <= today <= datetime.now(zone).date()


def test_the_search_cache_is_cleaned_up(database_url):
    execute(
        database_url,
        """
        INSERT INTO web_search_cache (cache_key, query, results, cached_at, expires_at, lease_until)
        VALUES ('fresh', 'q', '[]', now(), NULL, NULL),
               ('old', 'q', '[]', now() - interval '25 hours', NULL, NULL),
               ('long', 'q', '[]', now() - interval '25 hours', now() + interval '1 day', NULL),
               ('expired', 'q', '[]', now(), now() - interval '1 s', NULL),
               ('leased', 'q', NULL, now(), now() - interval '1 s', now() + interval '1 minute');
        SELECT cleanup_search_cache();
        """,
    )
    left = fetch(database_url, "SELECT cache_key FROM web_search_cache ORDER BY 1")
    assert left == [("fresh",), ("leased",), ("long",)]
