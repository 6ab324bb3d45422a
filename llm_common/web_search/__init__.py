"""`WebSearchClient`: a search that is paid for once, and cached in memory and Postgres."""

from ..search import SearchResult
from .client import CacheStats, SearchAnswer, WebSearchClient
from .questions import cache_key

__all__ = ["CacheStats", "SearchAnswer", "SearchResult", "WebSearchClient", "cache_key"]
