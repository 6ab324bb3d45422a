"""`CostTracker`: budgets, holds, the spool and the ledger."""

from .alerts import alerts_for
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
from .process import drain_on_sigterm, flush_quietly, is_owner_alive, owner_of
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
    "alerts_for",
    "drain_on_sigterm",
    "flush_quietly",
    "from_nano",
    "is_owner_alive",
    "owner_of",
    "to_nano",
    "usd",
]
