"""A bill, what searches find about it, and what the models were asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from llm_common import AnalysisPipeline, CostTracker, LLMClient, WebSearchClient
from llm_common.analysis import BillAnalysis
from llm_common.analysis.models import DraftAnalysis
from llm_common.testing import Answer, CorpusDocument, ProviderServer
from llm_common.testing.records import RecordedRequest

MODELS = {"research": "gpt-4o-mini", "generate": "gpt-4o", "review": "gpt-4o"}

BILL_TEXT = """
The county of Kern shall open a winter shelter with no fewer than two hundred beds before the first
day of November. The costs of the shelter are borne by a levy of three percent on hotel rooms within
the county limits. Owners of hotels with under ten rooms are exempt from the levy until January of
2030. The sheriff reports each quarter to the board of supervisors on how many people slept there,
where they went afterwards, and what every night cost the taxpayers. Volunteers who staff a shelter
for more than forty hours in one month receive free bus passes. Nothing in this chapter obliges a
city to match county funds, nor does it change existing zoning law for religious buildings.
"""

NOTE = (
    "The fiscal note estimates that the Kern winter shelter levy on hotel rooms raises "
    "4.2 million dollars each year. Hotel owners expect fewer guests in the first winter."
)

SUBJECT: dict[str, Any] = {
    "bill_id": "AB-1234",
    "bill_text": BILL_TEXT,
    "jurisdiction": "California",
    "models": MODELS,
}

SIGNS = {
    "You plan the research": "research",
    "You analyse": "generate",
    "You review": "review",
    "You revise": "refine",
}
"""How each step's prompt begins."""


def step_of(request: RecordedRequest) -> str:
    """Tell which step a request belongs to."""
    if "messages" not in request.body:
        return "search"
    prompt = request.body["messages"][0]["content"]
    return next(step for sign, step in SIGNS.items() if prompt.startswith(sign))


def asks(step: str) -> Callable[[RecordedRequest], bool]:
    """Match the requests of a step."""
    return lambda request: step_of(request) == step


def asked(fake: ProviderServer) -> dict[str, int]:
    """How many requests of each step reached the server."""
    return dict(Counter(step_of(request) for request in fake.requests))


def impact(*quotes: str, source: str = "bill", confidence: float = 0.8) -> dict[str, Any]:
    """An impact as a model writes it."""
    evidence = [{"quote": quote, "source_id": source} for quote in quotes]
    words = {"title": "Hotel owners pay", "description": "Guests of hotels carry the costs."}
    return {**words, "evidence": evidence, "confidence": confidence}


def draft(*impacts: dict[str, Any], summary: str = "A levy pays for a shelter.") -> Answer:
    return Answer(json={"summary": summary, "impacts": list(impacts)})


def review(*, passed: bool, missing: Sequence[str] = (), wrong: Sequence[str] = ()) -> Answer:
    return Answer(
        json={
            "passed": passed,
            "critique": "As it says.",
            "missing_impacts": list(missing),
            "factual_errors": list(wrong),
        }
    )


QUERIES = Answer(json={"queries": ["Kern winter shelter levy", "Kern hotel rooms fiscal note"]})


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [CorpusDocument("Fiscal note", "https://kern.example/fiscal-note", NOTE, "2026-10-01")]


Pipeline = AnalysisPipeline[DraftAnalysis, BillAnalysis]
Build = Callable[..., Pipeline]


@pytest.fixture
def build(fake: ProviderServer, costs: CostTracker) -> Build:
    """Make a pipeline of a provider, with its own clients."""

    def make(tracker: CostTracker = costs, *, provider: str = "openai", **options: Any) -> Any:
        llm = LLMClient(provider, cost_tracker=tracker)
        return AnalysisPipeline(llm, WebSearchClient(cost_tracker=tracker), tracker, **options)

    return make


@pytest.fixture
def pipeline(build: Build) -> Pipeline:
    return build()


Table = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def table(database_url: str) -> Table:
    """Read a table's rows as a host does."""

    def read(name: str) -> list[dict[str, Any]]:
        order = {"pipeline_steps": "started_at, key", "cost_tracking": "timestamp"}.get(name, "1")
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            return connection.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()  # type: ignore[arg-type]

    return read
