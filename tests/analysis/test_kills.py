"""Killed in the middle of any step, the same again completes and repeats no finished step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import pytest

from llm_common import CostTracker
from llm_common.documents import load_document
from llm_common.testing import Answer, CorpusDocument, ProviderServer
from tests import children
from tests.analysis.conftest import Table, asked, asks, review, step_of
from tests.support import data_dir

ANALYSE = """
import asyncio, os
from llm_common import AnalysisPipeline, CostTracker, LLMClient, WebSearchClient
from llm_common.documents import load_document

async def main():
    costs = CostTracker(os.environ["DATABASE_URL"], daily_budget_usd=5)
    llm, search = LLMClient("openai", cost_tracker=costs), WebSearchClient(cost_tracker=costs)
    bill = load_document(os.environ["BILL"])
    analysis = await AnalysisPipeline(llm, search, costs).run(
        bill_id=bill.id, bill_text=bill.text, title=bill.title,
        models={"research": "gpt-4o-mini", "generate": "gpt-4o", "review": "gpt-4o"},
    )
    print(analysis.model_dump_json())
    await costs.aclose()

asyncio.run(main())
"""
BILL = "hj37_rh.xml"


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    bill = load_document(data_dir("bills") / BILL)
    return [CorpusDocument(bill.title, "https://a.example/bill", bill.text)]


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BILL": str(data_dir("bills") / BILL)}


ALL = {"research": 1, "search": 2, "generate": 1, "review": 2, "refine": 1}


def script(fake: ProviderServer) -> None:
    """Two queries, and a first review that fails."""
    queries = ["joint resolution constitution amendment", "equal rights amendment ratification"]
    fake.script(Answer(json={"queries": queries}), match=asks("research"))
    fake.script(review(passed=False, missing=["the states"]), match=asks("review"))
    fake.script(review(passed=True), match=asks("review"))


@pytest.mark.parametrize("step", ["research", "search", "generate", "review", "refine"])
async def test_killed_in_the_middle_of_a_step(
    fake: ProviderServer,
    costs: CostTracker,
    table: Table,
    environment: dict[str, str],
    step: str,
) -> None:
    fake.script(Answer(latency_s=60), match=asks(step))
    script(fake)

    def is_in_the_step() -> bool:
        done = [s for s in table("pipeline_steps") if (s["step"], s["state"]) == (step, "done")]
        # The first request of the step hangs; of two searches at once, the other one ends.
        return asked(fake).get(step, 0) == len(done) + 1 and len(done) == (step == "search")

    async with children.killed(ANALYSE, **environment):
        await children.until(is_in_the_step)
    lost = next(request.id for request in fake.requests if step_of(request) == step)
    analysis = json.loads(await children.run(ANALYSE, **environment))

    assert asked(fake) == {name: n + (name == step) for name, n in ALL.items()}
    (run,) = table("pipeline_runs")
    assert (run["status"], run["fence"], str(run["id"])) == ("completed", 2, analysis["run_id"])
    assert {s["state"] for s in table("pipeline_steps")} == {"done"}

    await costs.flush()
    rows = table("cost_tracking")
    (estimated,) = [r for r in rows if r["cost_source"] == "estimated"]
    assert (estimated["step"], estimated["status"]) == (step, "estimated")
    assert estimated["run_id"] == run["id"]
    lines = {line.request_id: line.amount or Decimal(0) for line in fake.invoice.lines}
    final = sum(r["cost_usd"] for r in rows if r is not estimated)
    assert final == fake.invoice.total_usd - lines[lost]
    assert estimated["cost_usd"] >= lines[lost]
    (budget,) = await costs.get_budgets()
    assert (budget.spent_usd, budget.held_usd) == (final + estimated["cost_usd"], 0)


async def test_killed_again_and_again(
    fake: ProviderServer, costs: CostTracker, table: Table, environment: dict[str, str]
) -> None:
    """A run that is killed once in each step pays each finished step once."""
    order = ["research", "search", "generate", "review", "refine"]
    for step in order:
        fake.script(Answer(latency_s=60), match=asks(step))
    script(fake)
    for step in order:
        wanted = ALL[step] if step == "search" else 1
        async with children.killed(ANALYSE, **environment):
            await children.until(lambda s=step, n=wanted: asked(fake).get(s, 0) == n)
    await children.run(ANALYSE, **environment)
    counts = asked(fake)
    # Of two searches at once, the one that was not held back may have been in flight as well.
    assert counts.pop("search") in (3, 4)
    assert counts == {name: n + 1 for name, n in ALL.items() if name != "search"}
    (run,) = table("pipeline_runs")
    assert (run["status"], run["fence"]) == ("completed", 6)
    assert await costs.get_daily_cost() >= fake.invoice.total_usd
    (budget,) = await costs.get_budgets()
    assert budget.held_usd == 0
