"""What a host can replace in an enrichment."""

from __future__ import annotations

from dataclasses import dataclass

from .interfaces import (
    CrawlDecisionMaker,
    LLMEnricher,
    QueryStringBuilder,
    SearchService,
    StateStore,
    WebCrawler,
)


@dataclass(frozen=True, slots=True)
class Components:
    """What a host replaces; None takes the library's own."""

    query_builder: QueryStringBuilder | None = None
    search_service: SearchService | None = None
    decision_maker: CrawlDecisionMaker | None = None
    crawler: WebCrawler | None = None
    enricher: LLMEnricher | None = None
    state_store: StateStore | None = None
