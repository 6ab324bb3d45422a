"""Enrichment of tables: keys go in, values with evidence come out, within a budget."""

from .components import Components
from .estimating import Estimate
from .interfaces import (
    CrawlDecisionMaker,
    LLMEnricher,
    QueryStringBuilder,
    SearchService,
    StateStore,
    WebCrawler,
)
from .models import (
    BatchState,
    BatchStatus,
    Cell,
    Column,
    CrawlConfig,
    CrawlStrategy,
    EnrichedRow,
    EnrichmentMetadata,
    EnrichmentRequest,
    EnrichmentResult,
    Evidence,
    JobState,
    JobStatus,
    PipelineConfig,
    RowState,
    RowStatus,
)
from .pipeline import EnrichmentPipeline
from .state import PostgresStateStore
from .state_files import FileSystemStateStore
from .tables import Table, open_table, write_table

__all__ = [
    "BatchState",
    "BatchStatus",
    "Cell",
    "Column",
    "Components",
    "CrawlConfig",
    "CrawlDecisionMaker",
    "CrawlStrategy",
    "EnrichedRow",
    "EnrichmentMetadata",
    "EnrichmentPipeline",
    "EnrichmentRequest",
    "EnrichmentResult",
    "Estimate",
    "Evidence",
    "FileSystemStateStore",
    "JobState",
    "JobStatus",
    "LLMEnricher",
    "PipelineConfig",
    "PostgresStateStore",
    "QueryStringBuilder",
    "RowState",
    "RowStatus",
    "SearchService",
    "StateStore",
    "Table",
    "WebCrawler",
    "open_table",
    "write_table",
]
