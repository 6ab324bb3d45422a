"""`demo`, `costs`, `runs`, `migrate` and `doctor`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Command


async def test_the_demonstration_pays_once(state: Path) -> None:
    cli = Command({"LLM_COMMON_STATE_DIR": str(state)})
    first = await cli("demo")
    assert first.code == 0, first.err
    assert "✓ “" in first.out
    assert "What this job has cost" in first.out
    again = await cli("demo", "--json")
    assert float(again.json["invoice_usd"]) == 0
    assert float(again.json["cost_usd"]) > 0
    run_id = again.json["runs"][0]["run_id"]
    shown = first.out.split(" runs ")[-1].split()
    assert run_id.startswith(shown[0])
    run = await cli("runs", *shown)
    assert run.code == 0, run.err
    assert "completed" in run.out
    assert "generate" in run.out


async def test_costs_and_runs(cli: Command, tmp_path: Path) -> None:
    bill = tmp_path / "bill.txt"
    bill.write_text((Path("llm_common/data/demo/bill.md")).read_text())
    await cli("analyze", bill, "--offline", "--budget", "0.5", "--project", "housing")
    costs = await cli("costs", "--by", "step", "--project", "housing")
    assert "research" in costs.out
    assert "Budgets" in costs.out
    as_json = await cli("costs", "--project", "housing", "--json")
    assert {r["key"] for r in as_json.json["rows"]} == {"offline/extractive", "search"}
    assert as_json.json["budgets"][0]["window"] == "total"
    listed = await cli("runs", "--project", "housing")
    assert "completed" in listed.out
    assert (await cli("runs", "--json")).json == []
    nobody = await cli("runs", "ffff")
    assert nobody.code == 2
    assert "no run starts with 'ffff'" in nobody.complaint
    assert "--since" in (await cli("costs", "--since", "2030-01-01")).complaint
    assert "--by" in (await cli("costs", "--by", "moon")).complaint


async def test_migrate(state: Path, empty_url: str) -> None:
    cli = Command({"DATABASE_URL": empty_url, "LLM_COMMON_STATE_DIR": str(state)})
    assert "pending" in (await cli("migrate", "status")).out
    assert "applied 2026" in (await cli("migrate", "up")).out
    assert "nothing to apply" in (await cli("migrate", "up")).out
    assert {m["state"] for m in (await cli("migrate", "status", "--json")).json} == {"applied"}
    assert (await cli("migrate", "verify")).code == 0
    assert "--to VERSION, or --all" in (await cli("migrate", "down", "--yes")).complaint
    assert "pass --yes" in (await cli("migrate", "down", "--all")).complaint
    assert (await cli("migrate", "verify")).code == 0
    first = (await cli("migrate", "status", "--json")).json[0]["version"]
    assert "took back" in (await cli("migrate", "down", "--to", first, "--yes")).out
    states = [m["state"] for m in (await cli("migrate", "status", "--json")).json]
    assert states == ["applied", *["pending"] * (len(states) - 1)]
    await cli("migrate", "up")
    assert "took back" in (await cli("migrate", "down", "--all", "--yes")).out
    assert {m["state"] for m in (await cli("migrate", "status", "--json")).json} == {"pending"}
    damaged = await cli("migrate", "verify")
    assert damaged.code == 2


async def test_doctor(cli: Command) -> None:
    cli.environment["OPENAI_API_KEY"] = "sk-not-shown"
    ended = await cli("doctor")
    assert ended.code == 0, ended.out
    assert "OPENAI_API_KEY" in ended.out
    assert "from environment DATABASE_URL" in ended.out
    assert "sk-not-shown" not in ended.out
    sick = await cli("doctor", "--database", "postgresql://u:secret@127.0.0.1:1/x", "--json")
    assert sick.code == 2
    assert any(f["state"] == "problem" and f["about"] == "database" for f in sick.json)
    assert "secret" not in sick.out + sick.err


@pytest.mark.parametrize("command", [[], ["analyze"], ["costs"], ["migrate"], ["doctor"], ["runs"]])
async def test_help_reads_well(cli: Command, command: list[str]) -> None:
    ended = await cli(*command, "--help")
    assert ended.code == 0
    assert "Usage: llm-common" in ended.out
