"""The seams of an enrichment: a host replaces any of them by a class of its own.

What passes through them is plain dictionaries, so that an implementation needs no type of ours:

* a row: its original columns by name;
* a search result: ``url``, ``title``, ``snippet``, ``query``, and ``published_date`` or None;
* a page: ``url``, ``title``, ``text`` (what a model is shown), ``full_text`` (what quotes are
  looked up in; `text`, if absent), ``dated`` or None, ``links``, and ``reason`` (``fetched``, or
  why there is no text);
* an answer: ``row`` (position in `batch_rows`), and ``cells``: for each column ``value``,
  ``quote`` and ``url``, or ``value`` None and ``reason``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from .models import Column, CrawlConfig, JobState, JobStatus, RowState

Dict = Mapping[str, Any]


class QueryStringBuilder(ABC):
    """Writes search queries."""

    @abstractmethod
    async def build_queries(
        self,
        rows: Sequence[Dict],
        columns_to_enrich: Sequence[Column],
        primary_keys: Sequence[str],
        *,
        round_no: int = 0,
        context: Dict | None = None,
    ) -> list[str]:
        """Return queries for rows; later rounds should ask otherwise, for columns still weak."""


class SearchService(ABC):
    """Finds pages."""

    @abstractmethod
    async def search(self, queries: Sequence[str]) -> list[dict[str, Any]]:
        """Return the results of all queries; each says in ``query`` which one it answers."""


class CrawlDecisionMaker(ABC):
    """Chooses what is worth fetching."""

    @abstractmethod
    async def select_urls_to_crawl(
        self, search_results: Sequence[Dict], max_urls: int, *, row: Dict | None = None
    ) -> list[str]:
        """Return URLs of results, the most promising first, at most `max_urls`."""


class WebCrawler(ABC):
    """Fetches pages."""

    @abstractmethod
    async def crawl(self, urls: Sequence[str], config: CrawlConfig) -> list[dict[str, Any]]:
        """Return a page for each URL, and for those that its links lead to, if the depth allows."""


class LLMEnricher(ABC):
    """Reads values off pages."""

    @abstractmethod
    async def enrich_batch(
        self,
        crawl_data: Sequence[Dict],
        batch_rows: Sequence[Dict],
        columns_to_enrich: Sequence[Column],
    ) -> list[dict[str, Any]]:
        """Return an answer for each row that has one.

        Args:
            crawl_data: pages; each says in ``rows`` for which positions of `batch_rows` it is.
            columns_to_enrich: a row that wants fewer of them names them in its ``_wanted``.
        """


class StateStore(ABC):
    """Keeps job state where a host wants to see it; runs and money stay in Postgres."""

    @abstractmethod
    async def save_job_state(self, job_state: JobState) -> None:
        """Keep a job; its rows and batches are kept by `save_row_state`."""

    @abstractmethod
    async def save_row_state(self, job_id: str, row_state: RowState) -> None:
        """Keep one row of a job."""

    @abstractmethod
    async def load_job_state(self, job_id: str) -> JobState | None:
        """Return a job with its rows; None if there is none."""

    @abstractmethod
    async def list_job_ids(self, status: JobStatus | None = None) -> list[str]:
        """Return the ids of jobs, the latest first."""

    @abstractmethod
    async def delete_job_state(self, job_id: str) -> None:
        """Forget a job; one that is not there is no error."""
