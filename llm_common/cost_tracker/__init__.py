"""`CostTracker`: budgets, holds, the spool and the ledger."""

from .models import (
    BudgetStatus,
    CostBreakdown,
    CostMetrics,
    CostTotal,
    Hold,
    Intent,
    Kind,
    Limit,
    Outcome,
    Scope,
    Window,
    from_nano,
    to_nano,
    usd,
)
from .tracker import CostTracker

__all__ = [
    "BudgetStatus",
    "CostBreakdown",
    "CostMetrics",
    "CostTotal",
    "CostTracker",
    "Hold",
    "Intent",
    "Kind",
    "Limit",
    "Outcome",
    "Scope",
    "Window",
    "from_nano",
    "to_nano",
    "usd",
]
