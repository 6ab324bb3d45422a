"""What differs between two runs, or two jobs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient
from llm_common.errors import InvalidInputError
from llm_common.runs import NewJob, NewUnit, Pipeline, Unit, UnitRun, create_job, open_run, work
from llm_common.runs.diff import Side, Spent, compared, diff
from llm_common.testing import Answer, ProviderServer

PROJECT = "compared"


async def do(db: Any, job_id: str, answers: Mapping[str, Any], version: int = 1) -> str:
    """Run a job whose step `look` answers as it is told; `add` goes on from there."""

    async def look(who: str) -> Any:
        return answers[who]

    async def add(x: int) -> int:
        return x + 1

    async def unit(run: UnitRun, given: Mapping[str, Any]) -> int:
        x = await run.step("look", look, {"who": given["who"]}, version=version)
        return await run.step("add", add, {"x": x}, key="one")

    units = [NewUnit(who, {"who": who}) for who in answers]
    job, _ = await create_job(db, PROJECT, NewJob("job", job_id=job_id), units)
    await work(db, PROJECT, job.job_id, Pipeline("job", unit))
    return job.job_id


async def test_jobs_are_compared_unit_by_unit_and_step_by_step(db: Any) -> None:
    await do(db, "monday", {"a": 1, "b": 2, "c": 3})
    await do(db, "tuesday", {"b": 20, "c": 3, "d": 4}, version=2)
    found = await diff(db, PROJECT, "mon", "tuesday")
    assert (found.left, found.right) == (Side("job", "monday"), Side("job", "tuesday"))
    assert found.units == {"only_left": 1, "changed": 1, "same": 1, "only_right": 1}
    told = [(one.unit_key, one.step, one.kind, one.left, one.right) for one in found.differences]
    assert told == [
        ("a", None, "only_left", "2", None),
        ("b", None, "changed", "3", "21"),
        ("b", "look", "changed", "2", "20"),
        ("b", "add one", "changed", "3", "21"),
        ("d", None, "only_right", None, "5"),
    ]
    same = await diff(db, PROJECT, "monday", "monday")
    assert (same.units, same.differences) == ({"same": 3}, [])


async def test_two_runs_are_a_pair_and_their_costs_differ(db: Any, fake: ProviderServer) -> None:
    costs = CostTracker(db, project=PROJECT)
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    fake.script(Answer(text="Paris"), Answer(text="Paris"), Answer(text="Rome"))

    async def ask(question: str) -> str:
        return await llm.chat([{"role": "user", "content": question}], max_tokens=50)

    ids: list[str] = []
    for question in ("Where?", "Where is it, I have asked before?", "Where?!"):
        unit = Unit(PROJECT, "asking", f"unit {question}", {"q": question})
        async with open_run(db, unit) as run:
            await run.step("ask", ask, {"question": question})
            await run.finish("completed")
        ids.append(run.id)
    await costs.flush()
    dearer = await diff(db, PROJECT, ids[0], ids[1][:30])
    assert dearer.units == {"dearer": 1}
    assert [(one.step, one.kind) for one in dearer.differences] == [
        (None, "dearer"),
        ("ask", "dearer"),
    ]
    assert dearer.right_spent.cost_usd > dearer.left_spent.cost_usd > 0
    assert dearer.right_spent.tokens > dearer.left_spent.tokens > 0
    assert (await diff(db, PROJECT, ids[1], ids[0])).units == {"cheaper": 1}
    changed = await diff(db, PROJECT, ids[0], ids[2])
    assert [(one.step, one.kind, one.right) for one in changed.differences] == [
        (None, "changed", None),
        ("ask", "changed", '"Rome"'),
    ]
    await costs.aclose()


@pytest.mark.parametrize(
    ("left", "right", "complaint"),
    [
        ("nothing", "monday", "no run or job starts with 'nothing'"),
        ("", "monday", "an empty id"),
        ("mon", "monday", "several runs or jobs start with 'mon'"),
        ("monday", "'; DROP TABLE x", "no run or job starts"),
    ],
)
async def test_what_can_not_be_compared(db: Any, left: str, right: str, complaint: str) -> None:
    for name in ("monday", "monsoon"):
        await create_job(db, PROJECT, NewJob("job", job_id=name), [NewUnit("a", {})])
    with pytest.raises(InvalidInputError, match=complaint):
        await diff(db, PROJECT, left, right)


async def test_a_run_is_not_compared_with_a_job(db: Any) -> None:
    await create_job(db, PROJECT, NewJob("job", job_id="monday"), [NewUnit("a", {})])
    async with open_run(db, Unit(PROJECT, "p", "u", {})) as run:
        await run.finish("completed")
    with pytest.raises(InvalidInputError, match=r"is a job and .* is a run"):
        await diff(db, PROJECT, "monday", run.id)


def test_calls_without_a_price_are_counted_beside_the_sum() -> None:
    def unit(cost: str, unpriced: int) -> dict[str, Any]:
        spent = {"cost_usd": cost, "unpriced": unpriced, "tokens": 5}
        return {
            "unit_key": "u",
            "output": "h",
            "seen": "1",
            "outcome": "done",
            "steps": [],
            "costs": {"ask": spent, "": spent},
        }

    side = Side("job", "a")
    found = compared(side, side, [unit("0.1", 1)], [unit("0.1", 0)])
    assert found.left_spent == Spent(Decimal("0.2"), 10, 2)
    assert found.units == {"same": 1}
