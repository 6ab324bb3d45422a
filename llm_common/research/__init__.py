"""Research over search and pages: presets that cite what they found."""

from .finance import FinanceSearchService
from .legislation import LegislationSearchService
from .models import Query, QueryOutcome, Research, Statement

__all__ = [
    "FinanceSearchService",
    "LegislationSearchService",
    "Query",
    "QueryOutcome",
    "Research",
    "Statement",
]
