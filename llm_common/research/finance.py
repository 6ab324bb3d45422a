"""Rules of tax and retirement, and the papers of funds: from those who make them, first."""

from __future__ import annotations

from decimal import Decimal

from ..errors import InvalidInputError
from ..llm_client import LLMClient
from ..web_search import WebSearchClient
from .models import Query, Research
from .preset import researched
from .searching import Searcher

MAX_SEARCHES = 6
RESULTS_PER_QUERY = 10

TAX_HOSTS = ("irs.gov", "treasury.gov", "congress.gov", "law.cornell.edu")
RETIREMENT_HOSTS = ("irs.gov", "dol.gov", "ssa.gov", "pbgc.gov")
FUND_HOSTS = ("sec.gov",)


class FinanceSearchService:
    """Searches for rules and papers of finance in the United States.

    Args:
        search: pays, caches and records.
        llm: writes the summaries; None takes sentences from the results as they are.
        max_searches: queries of one research that are sent at most.
        budget_usd: strict total of this service's searches and summaries, in USD.

    Raises:
        InvalidInputError: a bound that is none.
    """

    def __init__(
        self,
        search: WebSearchClient,
        llm: LLMClient | None = None,
        *,
        max_searches: int = MAX_SEARCHES,
        budget_usd: Decimal | float | str | None = None,
    ) -> None:
        self._llm = llm
        self._searcher = Searcher(
            search,
            max_searches=max_searches,
            budget_usd=budget_usd,
            results_per_query=RESULTS_PER_QUERY,
        )

    async def search_tax_rules(
        self, question: str, *, year: int | None = None, state: str | None = None
    ) -> Research:
        """Search the tax rules that answer a question, federal and of one state.

        Raises:
            InvalidInputError: the question is empty; nothing was sent.
            CallError, BudgetError: every query failed, or the summary did.
        """
        return await self._search(question, tax_queries(question.strip(), year, state))

    async def search_retirement_rules(self, question: str, *, year: int | None = None) -> Research:
        """Search the rules of retirement accounts, plans and benefits.

        Raises:
            InvalidInputError: the question is empty; nothing was sent.
            CallError, BudgetError: every query failed, or the summary did.
        """
        return await self._search(question, retirement_queries(question.strip(), year))

    async def search_fund_prospectus(self, fund: str) -> Research:
        """Search the prospectus of a fund, by its ticker or name.

        Raises:
            InvalidInputError: the fund is empty; nothing was sent.
            CallError, BudgetError: every query failed, or the summary did.
        """
        return await self._search(fund, fund_queries(fund.strip()))

    async def _search(self, subject: str, queries: list[Query]) -> Research:
        if not subject.strip():
            raise InvalidInputError("there is nothing to search for: the text is empty")
        return await researched(self._searcher, self._llm, subject.strip(), queries)


def tax_queries(question: str, year: int | None, state: str | None) -> list[Query]:
    """Return the searches for a question of tax. Pure."""
    when = f" {year}" if year else ""
    queries = [
        Query(f"{question}{when}", "federal rules", TAX_HOSTS),
        Query(f"{question} limits thresholds{when}", "figures of the year", ("irs.gov",)),
        Query(f"{question} tax law change{when}", "changes", recency="1y"),
        Query(f"{question} tax rules explained{when}", "explanations"),
    ]
    if state:
        queries.insert(1, Query(f"{state} department of revenue {question}{when}", "state rules"))
    return queries


def retirement_queries(question: str, year: int | None) -> list[Query]:
    """Return the searches for a question of retirement. Pure."""
    when = f" {year}" if year else ""
    return [
        Query(f"{question}{when}", "official rules", RETIREMENT_HOSTS),
        Query(f"{question} contribution limits{when}", "figures of the year", ("irs.gov",)),
        Query(f"{question} required distributions withdrawal rules{when}", "withdrawals"),
        Query(f"{question} rule change{when}", "changes", recency="1y"),
    ]


def fund_queries(fund: str) -> list[Query]:
    """Return the searches for a fund's papers. Pure."""
    return [
        Query(f"{fund} prospectus 485BPOS 497K", "filings", FUND_HOSTS),
        Query(f"{fund} summary prospectus", "summary prospectus"),
        Query(f"{fund} expense ratio fees", "fees"),
        Query(f"{fund} annual report shareholder", "annual report"),
        Query(f"{fund} fund fact sheet", "fact sheet"),
    ]
