"""`llm-common analyze` over real bills."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llm_common.documents import load_document
from llm_common.testing import Answer, CorpusDocument, Fault, ProviderServer
from tests.cli.command import Command
from tests.support import data_dir


@pytest.fixture
def bills() -> list[Path]:
    found = sorted(data_dir("bills").glob("*.xml"))
    assert len(found) == 17
    return found


@pytest.fixture
def bill(bills: list[Path]) -> Path:
    return next(b for b in bills if b.name.startswith("hr1000"))


def rows(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload]


async def test_all_bills_and_the_sum_of_the_ledger_is_the_invoice(
    cli: Command, bills: list[Path], database_url: str
) -> None:
    ended = await cli("analyze", *bills, "--offline", "--budget", "1.00", "--json")
    assert ended.code == 0, ended.err
    runs = ended.json["runs"]
    assert [r["file"] for r in runs] == [str(b) for b in bills]
    for run in runs:
        impacts = run["analysis"]["impacts"]
        assert impacts
        assert all(e["verdict"] == "verified" for i in impacts for e in i["evidence"])
    ((total, unpriced, attempts),) = rows(
        database_url,
        "SELECT sum(cost_usd), count(*) FILTER (WHERE cost_usd IS NULL), count(*)"
        " FROM cost_tracking",
    )
    assert total == Decimal(ended.json["invoice_usd"]) == Decimal(ended.json["cost_usd"]) > 0
    assert (unpriced, attempts) == (0, sum(int(c["calls"]) for c in ended.json["costs"]))
    stored = rows(
        database_url,
        "SELECT status, quality_score > 0, review_passed, job_id FROM pipeline_runs",
    )
    assert stored == [("completed", True, True, ended.json["job_id"])] * 17

    again = await cli("analyze", *bills, "--offline", "--budget", "1.00", "--json")
    assert [r["run_id"] for r in again.json["runs"]] == [r["run_id"] for r in runs]
    assert again.json["runs"] == runs
    assert Decimal(again.json["invoice_usd"]) == 0
    assert rows(database_url, "SELECT count(*) FROM cost_tracking") == [(attempts,)]


async def test_a_budget_that_does_not_fit_is_refused_before_the_first_request(
    cli: Command, bills: list[Path], database_url: str, fake: ProviderServer
) -> None:
    cli.environment["OFFLINE_BASE_URL"] = fake.base_url("offline")
    ended = await cli("analyze", *bills, "--offline", "--budget", "0.001")
    assert ended.code == 2
    assert "17 bills would cost about $0.02" in ended.complaint
    assert "nothing was sent" in ended.complaint
    assert fake.requests == []
    assert rows(database_url, "SELECT count(*) FROM cost_tracking") == [(0,)]


async def test_no_resume_pays_anew(cli: Command, bill: Path) -> None:
    first = await cli("analyze", bill, "--offline", "--json")
    again = await cli("analyze", bill, "--offline", "--json", "--no-resume")
    assert again.code == 0, again.err
    paid = {c["key"]: c["calls"] for c in again.json["costs"]}
    assert paid["generate"] == 2
    assert first.json["runs"][0]["run_id"] != again.json["runs"][0]["run_id"]


async def test_it_looks_well_on_a_terminal(cli: Command, bill: Path) -> None:
    ended = await cli("analyze", bill, "--offline", "--jurisdiction", "United States")
    assert ended.code == 0, ended.err
    for part in ("116 H. Res. 1000 IH", "✓ “", "What this job has cost", "confidence 0.8", "sum"):
        assert part in ended.out


@pytest.mark.parametrize("after", [1, 2, 5, 6])
async def test_after_kill_9_in_any_step_the_same_command_completes(
    cli: Command, bill: Path, database_url: str, after: int
) -> None:
    document = load_document(bill)
    corpus = [CorpusDocument(document.title, "https://bills.example/1000", document.text)]
    async with ProviderServer(corpus) as server:
        # Whenever the kill comes, it comes in that step.
        is_held = True
        held = [Answer(latency_s=600)] * 20
        server.script(*held, match=lambda _: is_held and len(server.requests) >= after)
        cli.environment["OFFLINE_BASE_URL"] = server.base_url("offline")
        command = ("analyze", bill, "--offline", "--budget", "1.00", "--json")
        victim = await cli.start(*command)
        while len(server.requests) < after:
            await asyncio.sleep(0.01)
            assert victim.returncode is None
        victim.kill()
        await victim.communicate()
        finished = [
            (step, key)
            for step, key in rows(
                database_url, "SELECT step, key FROM pipeline_steps WHERE state = 'done'"
            )
        ]
        is_held = False
        ended = await cli(*command)
        assert ended.code == 0, ended.err
        assert ended.json["runs"][0]["analysis"]["impacts"]
        ledger = rows(
            database_url,
            "SELECT status, cost_source, step, cost_usd FROM cost_tracking ORDER BY timestamp",
        )
        estimated = [row for row in ledger if row[1] == "estimated"]
        assert estimated
        assert {row[0] for row in estimated} == {"estimated"}
        # Every request has its row, and a finished step was asked for once. A search whose
        # intent was written may not have left the machine: it is charged as estimated all the same.
        unsent = len(ledger) - len(server.requests)
        assert 0 <= unsent <= sum(row[2] == "search" for row in estimated)
        asked = Counter(row[2] for row in ledger)
        done = Counter(step for step, _ in finished)
        assert all(asked[step] >= done[step] for step in done)
        assert asked["research"] == 1 + sum(row[2] == "research" for row in estimated)
        assert asked["generate"] == 1 + sum(row[2] == "generate" for row in estimated)
        certain = sum(row[3] for row in ledger if row[1] != "estimated")
        assert certain < server.invoice.total_usd <= sum(row[3] for row in ledger)
        # A search that was granted its hold, but not yet written down, waits for its expiry.
        ((waiting,),) = rows(
            database_url,
            "SELECT coalesce(sum(bound_nano), 0) FROM llm_holds WHERE state = 'held' AND NOT EXISTS"
            " (SELECT FROM cost_tracking c WHERE c.operation_id = llm_holds.operation_id)",
        )
        counters = rows(database_url, "SELECT spent_usd, held_nano FROM llm_budget_counters")
        assert counters == [(sum(row[3] for row in ledger), waiting)]


async def test_two_bills_of_which_one_fails(
    cli: Command, bills: list[Path], fake: ProviderServer
) -> None:
    cli.environment["OFFLINE_BASE_URL"] = fake.base_url("offline")
    fake.script(Fault.status(400))
    ended = await cli("analyze", *bills[:2], "--offline", "--json")
    assert sorted(r["error"] is None for r in ended.json["runs"]) == [False, True]
    assert ended.code == 1
    again = await cli("analyze", *bills[:2], "--offline", "--json")
    assert again.code == 0
    assert all(r["analysis"] for r in again.json["runs"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "is empty"), (b" \n\t ", "holds no text"), (b"\x00\x01\x02\xff", "is binary")],
)
async def test_a_bad_file_is_one_line_and_nothing_is_sent(
    cli: Command, tmp_path: Path, bill: Path, fake: ProviderServer, content: bytes, complaint: str
) -> None:
    cli.environment["OFFLINE_BASE_URL"] = fake.base_url("offline")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(content)
    ended = await cli("analyze", bill, bad, "--offline")
    assert ended.code == 2
    assert complaint in ended.complaint
    assert str(bad) in ended.complaint
    assert fake.requests == []


async def test_the_same_document_twice(cli: Command, bill: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.xml"
    copy.write_bytes(bill.read_bytes())
    ended = await cli("analyze", bill, copy, "--offline")
    assert ended.code == 2
    assert f"{copy} is the same document as {bill}" in ended.complaint


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--offline", "--budget", "plenty"], "--budget must be a number of USD"),
        (["--offline", "--models", "gpt-17"], "offline has no model 'gpt-17'"),
        (["--offline", "--models", "generate=extractive,write=x"], "research=…,generate=…"),
        ([], "no key for openrouter: pass api_key=… or set OPENROUTER_API_KEY"),
        (["--provider", "nobody"], "no provider 'nobody'"),
        (["--engine", "altavista"], "no search engine 'altavista'"),
        (["--offline", "--database", "postgresql://127.0.0.1:1/x"], "can't be reached"),
        (["--offline", "--database", "::"], "can't be read"),
    ],
)
async def test_a_bad_option_is_one_line(
    cli: Command, bill: Path, options: list[str], complaint: str
) -> None:
    ended = await cli("analyze", bill, *options)
    assert ended.code == 2
    assert complaint in ended.complaint


async def test_an_unmigrated_database_says_what_to_do(
    cli: Command, bill: Path, empty_url: str
) -> None:
    ended = await cli("analyze", bill, "--offline", "--database", empty_url)
    assert ended.code == 2
    assert "llm-common migrate up" in ended.complaint


async def test_a_search_engine_that_answers_html(
    cli: Command, bill: Path, fake: ProviderServer, database_url: str
) -> None:
    cli.environment["OFFLINE_BASE_URL"] = fake.base_url("offline")
    fake.script(*[Fault.html()] * 20, match="web_search")
    ended = await cli("analyze", bill, "--offline")
    assert ended.code == 2
    assert "offline answered with HTML: check OFFLINE_BASE_URL" in ended.complaint
    assert rows(database_url, "SELECT status, error_class FROM pipeline_runs") == [
        ("failed", "BrokenResponseError")
    ]
    async with ProviderServer() as better:
        cli.environment["OFFLINE_BASE_URL"] = better.base_url("offline")
        ended = await cli("analyze", bill, "--offline", "--json")
        assert ended.code == 0, ended.err
        assert not any("research" in str(r.body)[:200] for r in better.requests[:1])
        assert {c["key"]: c["calls"] for c in ended.json["costs"]}["research"] == 1


async def test_interrupted_by_the_user(cli: Command, bill: Path) -> None:
    import signal

    async with ProviderServer(latency_s=600) as server:
        cli.environment["OFFLINE_BASE_URL"] = server.base_url("offline")
        process = await cli.start("analyze", bill, "--offline")
        while not server.requests:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"the same command goes on from here" in err
