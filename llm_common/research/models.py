"""What a research asks, and what it brings back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..evidence import Status
from ..search import Recency, SearchResult
from ..types import Frozen

Outcome = Literal["found", "nothing", "failed", "over_budget", "over_limit"]


@dataclass(frozen=True, slots=True)
class Query:
    """One search of a research.

    Attributes:
        about: what it is to find, such as ``fiscal note``.
    """

    text: str
    about: str
    domains: tuple[str, ...] = ()
    recency: Recency | None = None


class QueryOutcome(Frozen):
    """What became of a query.

    Attributes:
        results: how many it found; those of several queries count in each.
        outcome: ``over_budget`` and ``over_limit`` were not sent.
        error: the type of the failure, such as ``RateLimitedError``.
    """

    query: str
    about: str
    outcome: Outcome
    results: int = 0
    error: str | None = None


class Statement(Frozen):
    """A sentence of the summary, with the passage that it rests on.

    Attributes:
        source: number of the result, from 1.
        quote: the source's own words; of an unverified one, those that the model gave.
        verdict: by comparison in code; an unverified statement is left out of the summary.
    """

    text: str
    source: int
    quote: str
    verdict: Status


class Research(Frozen):
    """What was found, each page once, best first, and a summary that cites it.

    Attributes:
        results: their `rank` is the number by which the summary cites them.
        summarized_by: the model, or ``extract`` for sentences taken from the results as they are.
    """

    subject: str
    results: tuple[SearchResult, ...]
    queries: tuple[QueryOutcome, ...]
    statements: tuple[Statement, ...] = ()
    summarized_by: str = "extract"

    @property
    def summary(self) -> str:
        """The statements that a source bears out, each with its number in brackets."""
        kept = [each for each in self.statements if each.verdict != "unverified"]
        return " ".join(f"{each.text} [{each.source}]" for each in kept)
