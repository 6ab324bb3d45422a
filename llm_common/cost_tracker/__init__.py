"""`CostTracker`: budgets, holds, the spool and the ledger."""

from .ledger import is_owner_alive, owner_of
from .models import (
    ESTIMATED,
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
    "ESTIMATED",
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
    "is_owner_alive",
    "owner_of",
    "to_nano",
    "usd",
]
