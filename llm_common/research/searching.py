"""Many queries, one list: searched at once, within bounds, each page once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from decimal import Decimal
from urllib.parse import urlsplit
from uuid import uuid4

from ..context import current, labels
from ..cost_tracker import CostTracker, usd
from ..errors import BudgetError, CallError, InvalidInputError
from ..search import SearchResult
from ..web_search import WebSearchClient
from .models import Query, QueryOutcome

AT_ONCE = 4
FUSION_K = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009)."""

_WWW = re.compile(r"^www\d?\.")

Found = tuple[list[SearchResult], list[QueryOutcome]]


class Searcher:
    """Runs the queries of a service through one client, within the service's own bounds.

    Args:
        max_searches: queries of one research that are sent at most.
        budget_usd: strict total for the life of the service, in USD; the limits of the client's
            tracker hold beside it.

    Raises:
        InvalidInputError: a bound that is none.
    """

    def __init__(
        self,
        search: WebSearchClient,
        *,
        max_searches: int,
        budget_usd: Decimal | float | str | None,
        results_per_query: int,
    ) -> None:
        if max_searches < 1:
            raise InvalidInputError(f"max_searches must be 1 or more, not {max_searches!r}")
        self._search = search
        self._most = max_searches
        self._count = results_per_query
        self._budget = None if budget_usd is None else usd(budget_usd, "budget_usd")
        self._tag = f"research:{uuid4()}"
        self._limited: list[CostTracker] = []

    async def run(
        self,
        queries: Sequence[Query],
        order: Callable[[Iterable[SearchResult]], list[SearchResult]],
    ) -> Found:
        """Search all of them and return each page once, best first, with what became of each query.

        Raises:
            CallError, BudgetError: every query failed, and so did the first of them.
        """
        sent, left = queries[: self._most], queries[self._most :]
        room = asyncio.Semaphore(AT_ONCE)
        with self.labelled(self._search.cost_tracker):
            answers = await asyncio.gather(*(self._one(query, room) for query in sent))
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        outcomes = [_outcome(query, answer) for query, answer in zip(sent, answers, strict=True)]
        outcomes += [QueryOutcome(query=q.text, about=q.about, outcome="over_limit") for q in left]
        found = [answer for answer in answers if isinstance(answer, list)]
        return order(fused(found)), outcomes

    async def _one(
        self, query: Query, room: asyncio.Semaphore
    ) -> list[SearchResult] | CallError | BudgetError:
        async with room:
            try:
                return await self._search.search(
                    query.text, self._count, query.domains or None, query.recency
                )
            except (CallError, BudgetError) as error:
                return error

    @contextmanager
    def labelled(self, tracker: CostTracker) -> Generator[None]:
        """Charge what is paid in the block to this service's budget."""
        if self._budget is not None and tracker not in self._limited:
            tracker.limit("tag", self._tag, "total", self._budget)
            self._limited.append(tracker)
        with labels(tags=(*current().tags, self._tag)):
            yield


def fused(answers: Sequence[Sequence[SearchResult]]) -> list[SearchResult]:
    """Merge the results of several queries: a page that several found comes before.

    The score of a page is the sum of ``1 / (FUSION_K + rank)`` over the queries that found it; of
    its copies the one with the most text is kept. `rank` is numbered anew.
    """
    scores: dict[str, float] = {}
    kept: dict[str, SearchResult] = {}
    for answer in answers:
        for result in answer:
            key = page_key(result.url)
            scores[key] = scores.get(key, 0.0) + 1 / (FUSION_K + result.rank)
            if key not in kept or len(text_of(result)) > len(text_of(kept[key])):
                kept[key] = result
    ordered = sorted(kept, key=lambda key: -scores[key])
    return [kept[key].model_copy(update={"rank": n}) for n, key in enumerate(ordered, 1)]


def page_key(url: str) -> str:
    """Return what two URLs of one page share: no scheme, ``www``, fragment or last slash."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url
    host = _WWW.sub("", (parts.netloc or "").lower())
    query = f"?{parts.query}" if parts.query else ""
    return f"{host}{parts.path.rstrip('/')}{query}"


def text_of(result: SearchResult) -> str:
    """Return the longer of what an engine tells of a page."""
    return max(result.content or "", result.snippet, key=len)


def _outcome(query: Query, answer: list[SearchResult] | CallError | BudgetError) -> QueryOutcome:
    if isinstance(answer, list):
        outcome = "found" if answer else "nothing"
        return QueryOutcome(
            query=query.text, about=query.about, outcome=outcome, results=len(answer)
        )
    outcome = "over_budget" if isinstance(answer, BudgetError) else "failed"
    return QueryOutcome(
        query=query.text, about=query.about, outcome=outcome, error=type(answer).__name__
    )
