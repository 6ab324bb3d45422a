"""Pages and searches turned into answers with their evidence."""

from .finance import FinanceSearchService
from .legislation import LegislationSearchService
from .models import Query, QueryOutcome, Research, Statement
from .structured import Cell, Structured, extract_structured

__all__ = [
    "Cell",
    "FinanceSearchService",
    "LegislationSearchService",
    "Query",
    "QueryOutcome",
    "Research",
    "Statement",
    "Structured",
    "extract_structured",
]
