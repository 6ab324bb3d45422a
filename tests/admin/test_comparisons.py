"""Models and prompt versions side by side, and the alerts as rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from supabase import create_client

from llm_common import LLMClient, admin
from llm_common.cost_tracker import CostTracker
from llm_common.database import Database
from llm_common.prompts import Prompt
from llm_common.testing import ProviderServer
from tests.cli.command import Command
from tests.receiver import receiving
from tests.servers import execute, fetch

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
RUN = "22222222-2222-2222-2222-222222222222"


def operation(number: int) -> str:
    return f"'00000000-0000-0000-0000-{number:012}'"


LEDGER = f"""
    INSERT INTO pipeline_runs (id, status, quality_score, project)
        VALUES ('{RUN}', 'completed', 0.8, 'p');
    INSERT INTO cost_tracking
        (operation_id, attempt_no, kind, status, accounted_on, project, model, step, cost_usd,
         input_tokens, output_tokens, latency_ms, prompt_id, prompt_version, prompt_hash, run_id)
    VALUES
        -- Version 1: answered at once, at the third attempt, and after a reask of unknown cost.
        ({operation(1)}, 1, 'first', 'ok', '2026-11-01', 'p', 'a', 's', 0.10, 100, 10, 100,
         'generate', '1', 'h1', '{RUN}'),
        ({operation(2)}, 1, 'first', 'error', '2026-11-30', 'p', 'a', 's', 0, NULL, NULL, 50,
         'generate', '1', 'h1', NULL),
        ({operation(2)}, 2, 'retry', 'error', '2026-11-30', 'p', 'a', 's', 0, NULL, NULL, 50,
         'generate', '1', 'h1', NULL),
        ({operation(2)}, 3, 'fallback', 'ok', '2026-11-30', 'p', 'b', 's', 0.30, 200, 20, 200,
         'generate', '1', 'h1', NULL),
        ({operation(3)}, 1, 'first', 'ok', '2026-11-02', 'p', 'a', 's', 0.05, 100, 10, 100,
         'generate', '1', 'h1', NULL),
        ({operation(3)}, 2, 'reask', 'ok', '2026-11-02', 'p', 'a', 's', NULL, NULL, NULL, NULL,
         'generate', '1', 'h1', NULL),
        -- The same version with another text; another version; another prompt, project and month.
        ({operation(4)}, 1, 'first', 'error', '2026-11-02', 'p', 'a', 's', NULL, 50, 5, 10,
         'generate', '1', 'h2', NULL),
        ({operation(5)}, 1, 'first', 'ok', '2026-11-02', 'p', 'a', 's', 0.000000000001, 50, 5, 10,
         'generate', '2', 'h3', NULL),
        ({operation(6)}, 1, 'first', 'ok', '2026-11-02', 'p', 'a', 't', 1, 50, 5, 10,
         'review', '1', 'h4', NULL),
        ({operation(7)}, 1, 'first', 'ok', '2026-11-02', 'q', 'a', 't', 1, 50, 5, 10,
         'generate', '1', 'h1', NULL),
        ({operation(8)}, 1, 'first', 'ok', '2026-12-01', 'p', 'a', 't', 1, 50, 5, 10,
         'generate', '1', 'h1', NULL),
        ({operation(9)}, 1, 'first', 'ok', '2026-11-02', 'p', 'a', 't', 1, 50, 5, 10,
         NULL, NULL, NULL, NULL);
"""


@pytest.fixture
def url(database_url: str) -> str:
    execute(database_url, LEDGER)
    return database_url


async def test_versions_of_a_prompt(url: str, db: Database) -> None:
    found = await admin.compare_prompt_versions(db, FIRST, LAST, "generate", project="p")
    assert [(row.prompt, row.version, row.hash) for row in found] == [
        ("generate", "1", "h1"),
        ("generate", "1", "h2"),
        ("generate", "2", "h3"),
    ]
    first, edited, second = found
    assert (first.calls, first.ok, first.ok_share) == (3, 3, 1)
    assert (edited.calls, edited.ok, edited.ok_share) == (1, 0, 0)
    assert (first.reasks, first.reask_share) == (1, Decimal("0.3333"))
    assert (first.total_cost, first.avg_cost, first.unpriced) == (
        Decimal("0.45"),
        Decimal("0.15"),
        1,
    )
    assert (first.avg_input_tokens, first.avg_output_tokens) == (Decimal("133.3"), Decimal("13.3"))
    assert first.avg_latency_ms == Decimal("166.7")
    assert (edited.total_cost, edited.avg_cost, edited.unpriced) == (0, None, 1)
    assert second.avg_cost == Decimal("1E-12")


async def test_every_prompt_of_every_project(url: str, db: Database) -> None:
    found = await admin.compare_prompt_versions(db, FIRST, LAST)
    assert [(row.prompt, row.hash, row.calls) for row in found] == [
        ("generate", "h1", 4),
        ("generate", "h2", 1),
        ("generate", "h3", 1),
        ("review", "h4", 1),
    ]


async def test_models_are_rows_too(url: str, db: Database) -> None:
    found = await admin.compare_models(db, FIRST, LAST, "s")
    assert [(row.model, row.calls, row.ok, row.errors) for row in found] == [
        ("b", 1, 1, 0),
        ("a", 7, 4, 3),
    ]
    assert found[0].avg_quality is None
    assert (found[1].avg_quality, found[1].unpriced) == (Decimal("0.8"), 2)
    assert {row.model for row in await admin.compare_models(db, FIRST, LAST)} == {"a", "b"}


def test_postgrest_finds_it_by_its_arguments(supabase_lite) -> None:  # type: ignore[no-untyped-def]
    # Other tests share this database: a year and a project of one's own.
    execute(supabase_lite.database_url, LEDGER.replace("2026", "2021").replace("'p'", "'prompts'"))
    client = create_client(supabase_lite.url, supabase_lite.secret_key)
    asked = {"start_date": "2021-11-01", "end_date": "2021-11-30", "prompt_id": "generate"}
    for arguments, calls in ((asked, 4), ({**asked, "target_project": "prompts"}, 3)):
        rows = client.rpc("compare_prompt_versions", arguments).execute().data
        assert rows[0]["calls"] == calls
    client.postgrest.session.close()


async def test_the_library_s_own_calls_are_compared(
    db: Database, fake: ProviderServer, database_url: str
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=(costs := CostTracker(db)))
    for version in ("1", "2"):
        await llm.chat(
            [{"role": "user", "content": "hello"}],
            prompt=Prompt("greet", version, f"text {version}"),
        )
    await costs.flush()
    today = fetch(database_url, "SELECT llm_today('test')")[0][0]
    found = await admin.compare_prompt_versions(db, today, today, "greet", project="test")
    assert [(row.version, row.calls, row.ok_share) for row in found] == [("1", 1, 1), ("2", 1, 1)]
    assert sum(row.total_cost for row in found) == fake.invoice.total_usd


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Command:
    where = {"DATABASE_URL": database_url, "LLM_COMMON_STATE_DIR": str(tmp_path)}
    return Command({**where, "LLM_COMMON_PROJECT": "p"})


async def test_the_command_compares_prompts(url: str, cli: Command) -> None:
    span = ("--since", str(FIRST), "--until", str(LAST))
    shown = await cli("costs", "prompts", "--id", "generate", *span)
    assert (shown.code, shown.err) == (0, "")
    assert "33%" in shown.out
    assert "review" not in shown.out
    every = (await cli("costs", "prompts", *span, "--json")).json
    assert [row["prompt"] for row in every] == ["generate"] * 3 + ["review"]
    assert every[0]["total_cost"] == "0.45"


ALERTS = """
    INSERT INTO llm_budget_counters
        (project, scope, scope_id, window_kind, window_start, limit_usd, spent_usd)
    VALUES ('p', 'project', 'p', 'day', '2026-11-21', 1, 0.9),
           ('q', 'project', 'q', 'day', '2026-11-21', 1, 0.9)
"""


async def test_alerts_are_rows(database_url: str, db: Database) -> None:
    execute(database_url, ALERTS)
    found = await admin.alerts(db, "p")
    assert sorted(alert.body["threshold"] for alert in found) == ["0.5", "0.8"]
    assert {(a.state, a.attempts, a.channel) for a in found} == {("pending", 0, None)}
    assert len(await admin.alerts(db, "p", limit=1)) == 1


async def test_the_command_lists_and_delivers_alerts(database_url: str, cli: Command) -> None:
    execute(database_url, ALERTS)
    listed = await cli("costs", "alerts")
    assert "80 % reached: the day budget of project p, $1; $0.9 is spent" in listed.out
    assert listed.out.count("pending") == 2
    refused = await cli("costs", "alerts", "--deliver")
    assert (refused.code, "set LLM_COMMON_ALERT_WEBHOOK" in refused.complaint) == (2, True)
    async with receiving() as receiver:
        cli.environment["LLM_COMMON_ALERT_WEBHOOK"] = receiver.url
        delivered = await cli("costs", "alerts", "--deliver", "--json")
        assert [row["state"] for row in delivered.json] == ["delivered"] * 2
        assert {body["project"] for body in receiver.bodies} == {"p"}
        doctor = await cli("doctor")
        assert "alert_webhook  set (from environment LLM_COMMON_ALERT_WEBHOOK)" in doctor.out
        assert receiver.url not in doctor.out + doctor.err + delivered.out
