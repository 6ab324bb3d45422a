"""Language-model calls that are reserved, recorded and never paid for twice.

Every public name is imported on first use, so that ``import llm_common`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis import AnalysisPipeline, BillAnalysis, ReviewCritique
    from .conversation_memory import ConversationMemory
    from .cost_tracker import CostMetrics, CostTracker, drain_on_sigterm
    from .enrichment import EnrichmentPipeline
    from .errors import BudgetExceededError, InsufficientEvidenceError, LLMCommonError
    from .llm_client import LLMClient
    from .rollout import Rollout
    from .routing import LLMTask
    from .types import LLMResponse
    from .web_search import SearchResult, WebSearchClient

__version__ = "0.1.0"

_HOME = {
    "AnalysisPipeline": "analysis",
    "BillAnalysis": "analysis",
    "BudgetExceededError": "errors",
    "ConversationMemory": "conversation_memory",
    "CostMetrics": "cost_tracker",
    "CostTracker": "cost_tracker",
    "EnrichmentPipeline": "enrichment",
    "InsufficientEvidenceError": "errors",
    "LLMClient": "llm_client",
    "LLMCommonError": "errors",
    "LLMResponse": "types",
    "LLMTask": "routing",
    "ReviewCritique": "analysis",
    "Rollout": "rollout",
    "SearchResult": "web_search",
    "WebSearchClient": "web_search",
    "drain_on_sigterm": "cost_tracker",
}

__all__ = [
    "AnalysisPipeline",
    "BillAnalysis",
    "BudgetExceededError",
    "ConversationMemory",
    "CostMetrics",
    "CostTracker",
    "EnrichmentPipeline",
    "InsufficientEvidenceError",
    "LLMClient",
    "LLMCommonError",
    "LLMResponse",
    "LLMTask",
    "ReviewCritique",
    "Rollout",
    "SearchResult",
    "WebSearchClient",
    "__version__",
    "drain_on_sigterm",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module the first time it is used."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
