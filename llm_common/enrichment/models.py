"""What goes into an enrichment and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, cast, get_args

from pydantic import Field, field_validator, model_validator

from ..errors import InvalidInputError
from ..types import Frozen

ColumnType = Literal[
    "text", "number", "integer", "boolean", "date", "email", "phone", "url", "choice"
]
Verdict = Literal[
    "verified", "repaired", "unverified", "missing", "conflict", "outdated",
    "accepted", "corrected", "rejected",
]  # fmt: skip


class JobStatus(StrEnum):
    """How a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchStatus(StrEnum):
    """How the rows of a batch stand together."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class RowStatus(StrEnum):
    """How a row stands."""

    PENDING = "pending"
    SEARCHING = "searching"
    CRAWLING = "crawling"
    ENRICHING = "enriching"
    COMPLETED = "completed"
    FAILED = "failed"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class CrawlStrategy(StrEnum):
    """Which links of a found page are followed; `SELECTIVE` follows those that look relevant."""

    DEPTH_FIRST = "depth_first"
    BREADTH_FIRST = "breadth_first"
    SELECTIVE = "selective"


class Column(Frozen):
    """A column that is wanted.

    Attributes:
        type: what its values must be; a value of another type is none.
        description: what is meant, for the model; the name alone, if empty.
        examples: values as they should look.
        choices: the values there are, of type ``choice``.
    """

    name: str
    type: ColumnType = "text"
    description: str = ""
    examples: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Column:
        """Read ``name``, ``name:type`` or ``name:choice(a|b)``.

        Raises:
            InvalidInputError: there is no such type.
        """
        name, _, kind = (part.strip() for part in text.partition(":"))
        kind, _, inner = kind.partition("(")
        if not name:
            raise InvalidInputError(f"{text!r} names no column: write name or name:type")
        if (kind or "text") not in get_args(ColumnType):
            known = ", ".join(get_args(ColumnType))
            raise InvalidInputError(f"column {name} has no type {kind!r}: use one of {known}")
        choices = tuple(c.strip() for c in inner.rstrip(")").split("|") if c.strip())
        return cls.model_validate({"name": name, "type": kind or "text", "choices": choices})

    @model_validator(mode="after")
    def _has_choices(self) -> Column:
        if (self.type == "choice") != bool(self.choices):
            raise ValueError(f"column {self.name}: choices belong to type choice, and only there")
        return self


class EnrichmentRequest(Frozen):
    """What is wanted of a table.

    Attributes:
        keys: columns that together name a row; they are what is searched for.
        columns_to_enrich: columns that are wanted; text such as ``"phone:phone"`` is parsed.
        search_context: more words for the queries, such as ``{"topic": "state legislators"}``.
    """

    keys: tuple[str, ...] = Field(min_length=1)
    columns_to_enrich: tuple[Column, ...] = Field(min_length=1)
    search_context: Mapping[str, Any] = Field(default_factory=dict[str, Any])

    @field_validator("columns_to_enrich", mode="before")
    @classmethod
    def _parsed(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        given = cast("list[Any]", value)
        return tuple(Column.parse(one) if isinstance(one, str) else one for one in given)

    @model_validator(mode="after")
    def _is_sound(self) -> EnrichmentRequest:
        names = [*self.keys, *(column.name for column in self.columns_to_enrich)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice among keys and wanted columns: {', '.join(twice)}")
        return self


class CrawlConfig(Frozen):
    """How pages are found and fetched.

    Attributes:
        max_depth: links that are followed from a found page; 0 fetches found pages alone.
        max_results_per_query: results of one search that are looked at.
        timeout_seconds: of one fetch.
        javascript_enabled: whether a browser may be used where a page needs one.
        max_pages_per_row: pages that one row may fetch in one round.
    """

    max_depth: int = Field(default=0, ge=0, le=3)
    max_results_per_query: int = Field(default=8, ge=1, le=50)
    timeout_seconds: float = Field(default=30.0, gt=0)
    strategy: CrawlStrategy = CrawlStrategy.SELECTIVE
    javascript_enabled: bool = False
    max_pages_per_row: int = Field(default=4, ge=1, le=50)


class PipelineConfig(Frozen):
    """How a job is run.

    Attributes:
        batch_size: most rows of one call to a model.
        max_parallel_batches: times `batch_size` is how many rows are under way at once.
        max_retries: further attempts at a row, after failures that may pass.
        retry_delay_seconds: before the first of them; it doubles.
        enable_state_persistence: whether job state is written to files as well.
        state_persistence_path: folder of those files.
        max_input_tokens: of one call to a model, for the pages of all its rows.
        refine_rounds: how often weak cells are tried again, with new queries and unseen URLs.
        max_age_days: searches and pages that are stored are taken if they are not older.
        max_evidence_age_days: evidence with an older date is ``outdated``; None accepts any age.
        budget_usd: strict limit of the job.
        row_budget_usd: strict limit of each row; rows are then asked for one by one, since a call
            for several could be held against none of them.
        model: asks this model instead of the task `extract`'s.
    """

    batch_size: int = Field(default=10, ge=1, le=100)
    max_parallel_batches: int = Field(default=5, ge=1, le=100)
    max_retries: int = Field(default=2, ge=0, le=20)
    retry_delay_seconds: float = Field(default=1.0, ge=0)
    enable_state_persistence: bool = False
    state_persistence_path: str | None = None
    crawl_config: CrawlConfig = CrawlConfig()
    max_input_tokens: int = Field(default=24_000, ge=1_000)
    refine_rounds: int = Field(default=2, ge=0, le=5)
    max_age_days: int = Field(default=30, ge=0)
    max_evidence_age_days: int | None = Field(default=730, ge=1)
    budget_usd: Decimal | None = Field(default=None, gt=0)
    row_budget_usd: Decimal | None = Field(default=None, gt=0)
    model: str | None = None


class Evidence(Frozen):
    """One value for one cell, with what bears it out.

    Attributes:
        value: of the column's type, in its normal form.
        quote: the page's own words; of an unverified one, as the model gave it.
        url: of the page that has the quote.
        verdict: ``verified`` and ``repaired`` as `evidence.verify` says, and only if the quote
            holds the value and the passage names the row; ``outdated`` if it does, but its page
            is too old or says so; else ``unverified``.
        dated: the date of the page, ISO 8601, where it has one.
        is_official: whether the page is the organisation's own, such as a government's.
        reason: why the verdict is not ``verified``.
    """

    value: Any
    quote: str | None = None
    url: str | None = None
    verdict: Verdict = "unverified"
    dated: str | None = None
    is_official: bool = False
    reason: str | None = None


class Cell(Frozen):
    """One wanted value of one row.

    Attributes:
        value: None where nothing settles it.
        verdict: of the evidence; ``conflict`` if sources that are as good disagree, ``missing`` if
            there is none; ``accepted``, ``corrected`` or ``rejected`` if a person has decided.
        confidence: 0 to 1, from the evidence, not from the model's own word; see `merging`.
        cost_usd: this cell's part of what its row has cost; None if a price is unknown.
        reason: why there is no value, or why it is not verified.
        conflicts: other values that were found, the likeliest first, with what bears them out.
    """

    value: Any = None
    verdict: Verdict = "missing"
    quote: str | None = None
    url: str | None = None
    confidence: float = 0.0
    cost_usd: Decimal | None = Decimal(0)
    reason: str | None = None
    conflicts: tuple[Evidence, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether its value holds: a page says so of this very row, or a person does."""
        return self.verdict in {"verified", "repaired", "accepted", "corrected"}


class EnrichmentMetadata(Frozen):
    """How a row came to its values.

    Attributes:
        sources: URLs that bear out a value.
        confidence: the mean of its cells'.
        processing_time: seconds from the start of the row to its end.
        cost_usd: of the row; its parts of calls for several rows included.
    """

    sources: tuple[str, ...] = ()
    confidence: float = 0.0
    processing_time: float = 0.0
    cost_usd: Decimal | None = Decimal(0)
    pages_read: int = 0
    rounds: int = 0


class EnrichedRow(Frozen):
    """A row of the table with what was found for it.

    Attributes:
        enriched_columns: values by column that a page bears out; else None.
        cells: the same with evidence.
        error: why the row failed or was skipped.
    """

    row_id: str
    original_data: Mapping[str, Any]
    enriched_columns: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    cells: Mapping[str, Cell] = Field(default_factory=dict[str, Cell])
    metadata: EnrichmentMetadata = EnrichmentMetadata()
    status: RowStatus = RowStatus.PENDING
    error: str | None = None


class RowState(Frozen):
    """A row while it is worked on."""

    row_id: str
    status: RowStatus = RowStatus.PENDING
    retry_count: int = 0
    last_error: str | None = None
    search_results: tuple[Mapping[str, Any], ...] | None = None
    crawl_results: tuple[Mapping[str, Any], ...] | None = None
    enriched_data: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


class BatchState(Frozen):
    """Rows that stand one after the other in the table, as many as `batch_size`."""

    batch_id: str
    status: BatchStatus
    row_ids: tuple[str, ...]
    started_at: datetime | None = None
    completed_at: datetime | None = None


class JobState(Frozen):
    """A job with its rows and batches, by id."""

    job_id: str
    status: JobStatus
    request: EnrichmentRequest
    config: PipelineConfig
    batches: Mapping[str, BatchState] = Field(default_factory=dict[str, BatchState])
    rows: Mapping[str, RowState] = Field(default_factory=dict[str, RowState])
    total_rows: int = 0
    completed_rows: int = 0
    failed_rows: int = 0
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class EnrichmentResult(Frozen):
    """What a job came to."""

    job_id: str
    status: JobStatus
    enriched_rows: tuple[EnrichedRow, ...]
    total_rows: int
    successful_rows: int
    failed_rows: int
    skipped_rows: int
    started_at: datetime | None
    completed_at: datetime | None
    total_duration_seconds: float
    config: PipelineConfig
