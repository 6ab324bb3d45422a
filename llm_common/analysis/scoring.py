"""Confidence and quality of an analysis: documented formulas over checked evidence, pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from .models import BillAnalysis, Impact, ReviewCritique, Verdict

WEIGHT: dict[Verdict, float] = {"verified": 1.0, "repaired": 0.9, "unverified": 0.0}
"""What a quote counts: word for word, found with slightly other words, not found."""

ENOUGH_SOURCES = 3
NOT_PASSED = 0.7


def evidence_share(verdicts: Sequence[Verdict]) -> float:
    """Return the part of the quotes that was found, each by its weight; 0 without quotes."""
    return sum(WEIGHT[v] for v in verdicts) / len(verdicts) if verdicts else 0.0


def confidence(impacts: Sequence[Impact], passed: bool) -> float:
    """Return the overall confidence, 0 to 1.

    The mean of the impacts' own, times 0.7 if the last review did not pass; 0 without impacts.
    """
    if not impacts:
        return 0.0
    mean = sum(impact.confidence for impact in impacts) / len(impacts)
    return round(mean * (1.0 if passed else NOT_PASSED), 3)


def quality(analysis: BillAnalysis, review: ReviewCritique) -> Decimal:
    """Return `quality_score`, 0 to 1 with two decimals.

    0.5 E + 0.3 R + 0.2 S, where E is the share of quotes found (by weight), R is 1 for a passed
    review and otherwise 1 less 0.2 for each missing impact or factual error (not below 0), and S
    is the number of sources that bear out a quote, of 3.
    """
    share = evidence_share([e.verdict for impact in analysis.impacts for e in impact.evidence])
    problems = len(review.missing_impacts) + len(review.factual_errors)
    reviewed = 1.0 if review.passed else max(0.0, 1.0 - 0.2 * max(problems, 1))
    cited = sum(1 for source in analysis.sources if source.quotes)
    breadth = min(1.0, cited / ENOUGH_SOURCES)
    return Decimal(str(round(0.5 * share + 0.3 * reviewed + 0.2 * breadth, 2)))
