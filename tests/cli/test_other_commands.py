"""`demo`, `costs`, `runs`, `models`, `migrate` and `doctor`."""

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


async def test_models(cli: Command, tmp_path: Path) -> None:
    cli.environment |= {"GEMINI_API_KEY": "sk-not-shown", "GEMINI_API_KEY_2": "sk-neither"}
    lines = (await cli("models", "--json")).json
    assert len({line["group"] for line in lines}) >= 20
    assert len(lines) >= 50
    found = {(line["group"], line["provider"]): line for line in lines}
    flash = found["gemini-2.5-flash", "gemini"]
    assert flash["id"] == "gemini-2.5-flash"
    assert (flash["input_usd_per_million"], flash["output_usd_per_million"]) == ("0.3", "2.5")
    assert (flash["context_tokens"], flash["max_output_tokens"]) == (1_048_576, 65_536)
    assert flash["keys"] == ["GEMINI_API_KEY", "GEMINI_API_KEY_2"]
    assert found["gpt-4o", "openai"]["output_usd_per_million"] == "10"
    assert found["gpt-4o", "openai"]["keys"] == []
    assert found["gpt-4o", "openai"]["missing"] == "OPENAI_API_KEY"
    shown = await cli("models", "--provider", "gemini")
    assert "7 deployments in 7 groups" in shown.out
    assert "GEMINI_API_KEY, GEMINI_API_KEY_2" in shown.out
    assert "sk-n" not in shown.out
    assert "no provider 'moon'" in (await cli("models", "--provider", "moon")).complaint

    registry = tmp_path / "registry.toml"
    registry.write_text(
        "[models.house]\ncontext = 5\nmax_output = 5\nat = { groq = 'house' }\n"
        "[models.home]\ncontext = 5\nmax_output = 5\nat = { groq = 'home' }\n"
        "[models.home.ceiling]\ninput_usd_per_million = 7\noutput_usd_per_million = 9\n"
    )
    cli.environment["LLM_COMMON_REGISTRY"] = str(registry)
    shown = await cli("models", "--provider", "groq")
    house = next(line for line in shown.out.splitlines() if "house" in line)
    assert house.count("unknown") == 2
    assert house.split()[-1] == "none"
    assert "GROQ_API_KEY is not set" in shown.out
    assert "↑7" in shown.out
    registry.write_text("[models.home.limits]\nrpm = 0\n")
    assert "line 2: models.home.limits.rpm" in (await cli("models")).complaint


@pytest.mark.parametrize(
    "command",
    [[], ["analyze"], ["costs"], ["migrate"], ["doctor"], ["runs"], ["models"], ["search"]],
)
async def test_help_reads_well(cli: Command, command: list[str]) -> None:
    ended = await cli(*command, "--help")
    assert ended.code == 0
    assert "Usage: llm-common" in ended.out
