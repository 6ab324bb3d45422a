"""Legislation and finance: every side, each page once, nothing said without a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from llm_common import CostTracker, LLMClient, WebSearchClient
from llm_common.documents import load_document
from llm_common.errors import BudgetExceededError, InvalidInputError, RateLimitedError
from llm_common.research import FinanceSearchService, LegislationSearchService
from llm_common.research.legislation import bill_queries, subject_of
from llm_common.research.searching import FUSION_K, fused, page_key
from llm_common.search import SearchResult
from llm_common.testing import Answer, CorpusDocument, Fault, ProviderServer
from tests.support import data_dir

Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

BILL = """AN ACT
To cap the yearly increase of rent in the state, and for other purposes.
SECTION 1. This Act may be cited as the “Fair Rent Act of 2026”.
"""


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [
        CorpusDocument(
            "Fiscal note",
            "https://leg.example.gov/fiscal/",
            "The Fair Rent Act would cost the state 4 million dollars a year. It has 9 sections.",
        ),
        CorpusDocument(
            "Fair Rent Act news",
            "https://www.news.example/rent?utm=1",
            "Tenants welcomed the Fair Rent Act. Landlords announced a lawsuit against it.",
        ),
        CorpusDocument(
            "Rent studies", "https://blog.example/rent", "A blog about the Fair Rent Act."
        ),
    ]


def result(url: str, rank: int, text: str = "x") -> SearchResult:
    return SearchResult(title=url, url=url, snippet=text, rank=rank)


@pytest.fixture
def search(costs: CostTracker) -> WebSearchClient:
    return WebSearchClient(cost_tracker=costs)


async def test_a_bill_from_every_side(
    fake: ProviderServer, search: WebSearchClient, ledger: Ledger
) -> None:
    service = LegislationSearchService(search, jurisdiction="California")
    research = await service.search_exhaustively("AB 1482", BILL)
    assert research.subject == "AB 1482: Fair Rent Act of 2026"
    assert len(research.queries) == len({query.query for query in research.queries}) == 14
    assert research.results[0].url == "https://leg.example.gov/fiscal/"
    assert [each.rank for each in research.results] == [1, 2, 3]
    assert {query.outcome for query in research.queries} <= {"found", "nothing"}
    assert len(await ledger()) == len(fake.requests) == 14
    assert research.summarized_by == "extract"
    assert (
        "The Fair Rent Act would cost the state 4 million dollars a year. [1]" in research.summary
    )
    # All of it was paid for: nothing is sent again.
    again = await service.search_exhaustively("AB 1482", BILL)
    assert again.results == research.results
    assert len(fake.requests) == 14


async def test_a_summary_says_nothing_that_no_source_says(
    fake: ProviderServer, search: WebSearchClient, costs: CostTracker, ledger: Ledger
) -> None:
    statements = [
        {
            "text": "It costs 4 million a year.",
            "source": 1,
            "quote": "cost the state 4 million dollars",
        },
        {
            "text": "It costs 9 million a year.",
            "source": 1,
            "quote": "cost the state 9 million dollars",
        },
        {"text": "Tenants like it.", "source": 99, "quote": "Tenants welcomed the Fair Rent Act"},
    ]
    fake.script(Answer(json={"statements": statements}), match="/chat/completions")
    llm = LLMClient(provider="openai", model="gpt-4o", cost_tracker=costs)
    research = await LegislationSearchService(search, llm).search_exhaustively("AB 1482", BILL)
    assert [each.verdict for each in research.statements] == [
        "verified",
        "unverified",
        "unverified",
    ]
    assert research.summary == "It costs 4 million a year. [1]"
    assert research.summarized_by.startswith("gpt-4o")
    assert Counter(row["kind"] for row in await ledger()) == {"search": 14, "first": 1}


async def test_a_budget_ends_a_research_with_what_it_has(
    fake: ProviderServer, search: WebSearchClient, ledger: Ledger
) -> None:
    service = LegislationSearchService(search, budget_usd="0.05")
    research = await service.search_exhaustively("AB 1482", BILL)
    assert Counter(query.outcome for query in research.queries)["over_budget"] == 9
    assert research.results
    assert sum(row["cost_usd"] for row in await ledger()) == Decimal("0.05")
    with pytest.raises(BudgetExceededError):
        await service.search_exhaustively("AB 1", BILL.replace("Fair", "Other"))
    # The bound is this service's: another one goes on.
    await LegislationSearchService(search, max_searches=1).search_exhaustively("AB 2", BILL)


async def test_a_limit_of_searches(fake: ProviderServer, search: WebSearchClient) -> None:
    research = await LegislationSearchService(search, max_searches=3).search_exhaustively("A", BILL)
    assert len(fake.requests) == 3
    assert Counter(q.outcome for q in research.queries)["over_limit"] == 11


async def test_one_failed_query_is_named_and_the_rest_stands(
    fake: ProviderServer, search: WebSearchClient
) -> None:
    fake.script(Fault.status(400))
    research = await FinanceSearchService(search).search_tax_rules("Fair Rent Act", year=2026)
    assert [q.outcome for q in research.queries].count("failed") == 1
    assert {q.error for q in research.queries} == {None, "BadRequestError"}
    assert research.results


async def test_if_every_query_fails_so_does_the_research(
    fake: ProviderServer, search: WebSearchClient
) -> None:
    fake.script(*(Fault.rate_limit(3600) for _ in range(20)))
    with pytest.raises(RateLimitedError):
        await FinanceSearchService(search).search_fund_prospectus("VTSAX")


async def test_finance_asks_those_who_make_the_rules(
    fake: ProviderServer, search: WebSearchClient
) -> None:
    service = FinanceSearchService(search)
    await service.search_tax_rules("home office deduction", year=2026, state="California")
    tax = [request.body for request in fake.requests]
    assert any("irs.gov" in str(body.get("search_domain_filter")) for body in tax)
    assert any("California" in body["search_query"] for body in tax)
    await service.search_retirement_rules("Roth IRA")
    await service.search_fund_prospectus("VTSAX")
    later = [request.body for request in fake.requests][len(tax) :]
    assert any("ssa.gov" in str(body.get("search_domain_filter")) for body in later)
    assert any(body.get("search_domain_filter") == "sec.gov" for body in later)


@pytest.mark.parametrize(
    "call", ["search_tax_rules", "search_retirement_rules", "search_fund_prospectus"]
)
async def test_nothing_to_search_for(
    fake: ProviderServer, search: WebSearchClient, call: str
) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        await getattr(FinanceSearchService(search), call)("  ")
    assert not fake.requests


@pytest.mark.parametrize(("bill_id", "text"), [("", BILL), ("AB 1", "  ")])
async def test_a_bill_without_id_or_text(
    fake: ProviderServer, search: WebSearchClient, bill_id: str, text: str
) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        await LegislationSearchService(search).search_exhaustively(bill_id, text)
    assert not fake.requests


@pytest.mark.parametrize("bound", [{"max_searches": 0}, {"budget_usd": "many"}])
def test_a_bound_that_is_none(search: WebSearchClient, bound: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        LegislationSearchService(search, **bound)


def test_real_bills_have_a_subject() -> None:
    files = sorted(data_dir("bills").glob("*.xml"))
    assert len(files) == 17
    subjects = {file.name: subject_of(load_document(file).text) for file in files}
    assert all(3 <= len(subject.split()) <= 20 for subject in subjects.values())
    assert subjects["h1058_rds.xml"].startswith("Autism Collaboration, Accountability, Research")
    assert subjects["s3874_is.xml"] == "Child Care Is Essential Act"
    assert subjects["hj37_rh.xml"].startswith("Directing the removal of United States Armed Forces")
    for subject in subjects.values():
        queries = bill_queries("X 1", subject, None)
        assert len({query.text for query in queries}) == len(queries)


def test_results_of_several_queries_are_one_list() -> None:
    a = [result("https://a.example/x/", 1), result("https://b.example", 2)]
    b = [result("http://www.a.example/x#part", 1, "a longer text"), result("https://c.example", 2)]
    merged = fused([a, b])
    assert [each.url for each in merged] == [
        "http://www.a.example/x#part",
        "https://b.example",
        "https://c.example",
    ]
    assert [each.rank for each in merged] == [1, 2, 3]


def test_what_two_queries_found_second_comes_before_what_one_found_first() -> None:
    a = [result("https://a.example", 1), result("https://both.example", 2)]
    b = [result("https://b.example", 1), result("https://both.example", 2)]
    assert 2 / (FUSION_K + 2) > 1 / (FUSION_K + 1)
    assert fused([a, b])[0].url == "https://both.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://a.b/c", "http://www.a.b/c/"),
        ("https://A.b/c?d=1", "https://a.b/c?d=1#e"),
    ],
)
def test_two_urls_of_one_page(one: str, other: str) -> None:
    assert page_key(one) == page_key(other)
    assert page_key("http://[bad") == "http://[bad"
