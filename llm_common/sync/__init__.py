"""The same classes for threads: every method waits, on one event loop that all threads share.

Nothing is written twice: each method below is the asynchronous one, run on the shared loop. So all
threads of a process share connections, limits and budgets. What `context.labels` says in a thread
holds for its calls.
"""

from .facades import (
    SyncAnalysisPipeline,
    SyncChatStream,
    SyncConversationMemory,
    SyncCostTracker,
    SyncEnrichmentPipeline,
    SyncLLMClient,
    SyncRollout,
    SyncWebSearchClient,
)
from .loop import run

__all__ = [
    "SyncAnalysisPipeline",
    "SyncChatStream",
    "SyncConversationMemory",
    "SyncCostTracker",
    "SyncEnrichmentPipeline",
    "SyncLLMClient",
    "SyncRollout",
    "SyncWebSearchClient",
    "run",
]
