"""Everything that the web has on a bill: official sources first."""

from __future__ import annotations

import re
from decimal import Decimal

from ..errors import InvalidInputError
from ..llm_client import LLMClient
from ..web_search import WebSearchClient
from .models import Query, Research
from .preset import researched
from .searching import Searcher

MAX_SEARCHES = 14
RESULTS_PER_QUERY = 10

_SHORT_TITLE = re.compile(
    r"may be cited as (?:the\s+)?"
    r"(?:[“‘\"'](?P<quoted>[^”\"\n]{4,160})[”\"]|(?P<plain>[A-Z][^.;,\n]{3,120}))"
)
_PURPOSE = re.compile(
    r"^\s*(?:AN ACT|A BILL|An act)?\s*"
    r"(?P<purpose>(?:To|Relating to|[A-Z][a-z]+ing)\s[^\n]{15,400})",
    re.MULTILINE,
)
_FORMULA = re.compile(r",?\s*(?:and for other purposes|and related matters)\.?\s*$", re.IGNORECASE)
_PURPOSE_WORDS = 12


class LegislationSearchService:
    """Searches for a bill from every side.

    Args:
        search: pays, caches and records.
        llm: writes the summary; None takes sentences from the results as they are.
        jurisdiction: such as ``California``; part of the queries for present law.
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
        jurisdiction: str | None = None,
        max_searches: int = MAX_SEARCHES,
        budget_usd: Decimal | float | str | None = None,
    ) -> None:
        self._llm = llm
        self._jurisdiction = jurisdiction
        self._searcher = Searcher(
            search,
            max_searches=max_searches,
            budget_usd=budget_usd,
            results_per_query=RESULTS_PER_QUERY,
        )

    async def search_exhaustively(self, bill_id: str, bill_text: str) -> Research:
        """Search the bill's text and history, its cost, present law, evidence, and both sides.

        Raises:
            InvalidInputError: no id or no text; nothing was sent.
            CallError, BudgetError: every query failed, or the summary did.
        """
        if not bill_id.strip():
            raise InvalidInputError("bill_id is empty: write an id such as CA-AB-1482")
        if not bill_text.strip():
            raise InvalidInputError(f"the text of {bill_id} is empty")
        subject = subject_of(bill_text) or bill_id.strip()
        queries = bill_queries(bill_id.strip(), subject, self._jurisdiction)
        return await researched(self._searcher, self._llm, f"{bill_id}: {subject}", queries)


def subject_of(bill_text: str) -> str:
    """Return what a bill is about, in a few words: its short title, else its purpose. Pure."""
    if short := _SHORT_TITLE.search(bill_text):
        return " ".join((short["quoted"] or short["plain"]).split()).rstrip(".,;’'")
    if purpose := _PURPOSE.search(bill_text):
        words = _FORMULA.sub("", purpose["purpose"].strip()).split()
        return " ".join(words[:_PURPOSE_WORDS]).rstrip(",;.")
    return " ".join(bill_text.split()[:_PURPOSE_WORDS])


def bill_queries(bill_id: str, subject: str, jurisdiction: str | None) -> list[Query]:
    """Return the searches for a bill, the most telling first. Pure."""
    place = f"{jurisdiction} " if jurisdiction else ""
    named = f"{place}{bill_id}"
    return [
        Query(f"{named} bill text history status", "text and status"),
        Query(f"{named} fiscal note cost estimate", "fiscal note"),
        Query(f"{named} committee analysis report", "committee analysis"),
        Query(f"{subject} {place}present law".strip(), "present law"),
        Query(f"{named} amendments votes sponsors", "amendments and votes"),
        Query(f"{subject} cost impact on households", "impact on households"),
        Query(f"{subject} cost impact on businesses", "impact on businesses"),
        Query(f"{subject} evaluation study evidence", "evidence"),
        Query(f"{subject} similar law in other states results", "similar laws"),
        Query(f"{named} support statement testimony", "supporters"),
        Query(f"{named} opposition statement testimony", "opponents"),
        Query(f"{named} news", "news", recency="1m"),
        Query(f"{subject} statistics data", "figures"),
        Query(f"{subject} lawsuit court ruling", "courts"),
    ]
