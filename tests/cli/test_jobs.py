"""`llm-common jobs` and `runs diff`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from llm_common.errors import InvalidInputError
from llm_common.runs import NewJob, NewUnit, Outcome, Pipeline, UnitRun, control, create_job, work
from tests.cli.command import TIMEOUT_S, Command

PROJECT = "local"


async def unit(run: UnitRun, given: Mapping[str, Any]) -> Any:
    if given["x"] == 3:
        raise InvalidInputError("[bold]three[/bold] is no number of ours")
    return {"x": given["x"]}


PIPELINE = Pipeline("counting", unit)


async def made(db: Any, job_id: str, count: int = 5) -> str:
    bad = NewUnit("empty", {"x": None}, (Outcome.EMPTY_KEY, "its key is empty"))
    units = [*(NewUnit(f"u{n}", {"x": n}) for n in range(count)), bad]
    await create_job(db, PROJECT, NewJob("counting", job_id=job_id), units)
    return job_id


async def test_jobs_are_listed_and_shown(cli: Command, db: Any) -> None:
    assert (await cli("jobs", "--json")).json == []
    await work(db, PROJECT, await made(db, "first"), PIPELINE)
    await made(db, "second")
    listed = await cli("jobs")
    assert listed.code == 0, listed.err
    assert listed.out.index("│ second") < listed.out.index("│ first")
    assert "counting v1" in listed.out
    as_json = (await cli("jobs", "list", "--json", "--status", "completed")).json
    assert [(one["job_id"], one["done"], one["percent"]) for one in as_json] == [("first", 6, 100)]
    shown = await cli("jobs", "show", "first")
    assert "completed: 6 of 6 units (100 %)" in shown.out
    assert "invalid_input" in shown.out
    assert "[bold]three[/bold] is no number of ours" in shown.out
    whole = (await cli("jobs", "show", "first", "--json")).json
    assert [(f["unit_key"], f["outcome"], f["fault"], f["tries"]) for f in whole["failed"]] == [
        ("u3", "invalid_input", "input", 1)
    ]
    assert whole["outcomes"] == {"done": 4, "invalid_input": 1, "empty_key": 1}
    assert (whole["cost_usd"], whole["unpriced"]) == ("0", 0)


async def test_a_job_is_told_what_to_do(cli: Command, db: Any) -> None:
    job_id = await made(db, "told")
    assert (await cli("jobs", "pause", job_id)).out == "job told is paused\n"
    assert (await cli("jobs", "resume", job_id, "--json")).json == {
        "job_id": "told",
        "status": "running",
    }
    await work(db, PROJECT, job_id, PIPELINE)
    refused = await cli("jobs", "pause", job_id)
    assert (refused.code, "is completed: it can't pause" in refused.complaint) == (2, True)
    assert (await cli("jobs", "retry", job_id)).out == "1 unit of job told queued again\n"
    await work(db, PROJECT, job_id, PIPELINE)
    assert (await cli("jobs", "retry", job_id, "--outcome", "crashed", "--json")).json == {
        "job_id": "told",
        "requeued": 0,
    }
    again = await cli("jobs", "rerun", job_id, "--unit", "u1", "--unit", "u2", "--json")
    assert again.json["requeued"] == 2
    assert (await cli("jobs", "cancel", job_id)).out == "job told is cancelled\n"
    nobody = await cli("jobs", "show", "nobody")
    assert (nobody.code, "has no job nobody" in nobody.complaint) == (2, True)


async def test_what_is_resumed_has_a_ticket(cli: Command, db: Any, database_url: str) -> None:
    from llm_common.runs.tickets import open_tickets

    job_id = await made(db, "ticketed")
    await cli("jobs", "pause", job_id)
    await cli("jobs", "resume", job_id)
    async with open_tickets(database_url, "public") as tickets:
        assert await tickets.waiting() == {job_id}


@pytest.mark.parametrize("option", ["--json", None])
async def test_a_job_is_watched_to_its_end(cli: Command, db: Any, option: str | None) -> None:
    job_id = await made(db, "watched")
    watching = await cli.start("jobs", "watch", job_id, *([option] if option else []))
    assert watching.stdout is not None
    first = (await asyncio.wait_for(watching.stdout.readline(), TIMEOUT_S)).decode()
    await work(db, PROJECT, job_id, PIPELINE)
    out, err = await asyncio.wait_for(watching.communicate(), TIMEOUT_S)
    assert watching.returncode == 0, err
    last = out.decode().splitlines()[-1]
    if option:
        assert (json.loads(first)["status"], json.loads(first)["done"]) == ("pending", 1)
        assert (json.loads(last)["status"], json.loads(last)["percent"]) == ("completed", 100)
    else:
        assert first.startswith("pending: 1 of 6 units (16.7 %), ")
        assert last.startswith("completed: 6 of 6 units (100 %), ")


async def test_runs_of_jobs_are_compared(cli: Command, db: Any) -> None:
    for name, count in (("before", 3), ("after", 4)):
        await work(db, PROJECT, await made(db, name, count), PIPELINE)
    told = await cli("runs", "diff", "before", "after")
    assert told.code == 0, told.err
    assert "4 the same, 1 right alone" in told.out
    as_json = (await cli("runs", "diff", "before", "after", "--json")).json
    assert [(one["unit_key"], one["kind"]) for one in as_json["differences"]] == [
        ("u3", "only_right")
    ]
    wrong = await cli("runs", "diff", "before", "never")
    assert (wrong.code, "no run or job starts with 'never'" in wrong.complaint) == (2, True)
    # The words that were there before still do.
    listed = (await cli("runs", "--json")).json
    assert len(listed) == 9
    one = await cli("runs", listed[0]["id"][:13])
    assert listed[0]["unit_key"] in one.out
    assert "completed" in (await cli("runs")).out


async def test_a_cancelled_job_is_not_retried(cli: Command, db: Any) -> None:
    job_id = await made(db, "gone")
    await control(db, PROJECT, job_id, "cancel")
    refused = await cli("jobs", "retry", job_id)
    assert "is cancelled: it can't retry" in refused.complaint
