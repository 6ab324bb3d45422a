"""Jobs, rows and results as they are stored: read from runs, units and steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ..runs import JobProgress, JobRecord
from .models import (
    BatchState,
    BatchStatus,
    Cell,
    EnrichedRow,
    EnrichmentMetadata,
    EnrichmentRequest,
    EnrichmentResult,
    JobState,
    JobStatus,
    PipelineConfig,
    RowState,
    RowStatus,
)

PIPELINE = "enrichment"

_OVER = {
    "completed": RowStatus.COMPLETED,
    "failed": RowStatus.FAILED,
    "cancelled": RowStatus.CANCELLED,
    "skipped": RowStatus.SKIPPED,
}
_AT = {
    "queries": RowStatus.SEARCHING,
    "search": RowStatus.SEARCHING,
    "choose": RowStatus.CRAWLING,
    "crawl": RowStatus.CRAWLING,
    "enrich": RowStatus.ENRICHING,
}

Unit = Mapping[str, Any]


def options_of(
    request: EnrichmentRequest,
    config: PipelineConfig,
    columns: Sequence[str],
    rows_digest: str | None,
) -> dict[str, Any]:
    """Return what is stored of a job; from it, two requests are told apart."""
    options: dict[str, Any] = {
        "request": request.model_dump(mode="json"),
        "config": config.model_dump(mode="json"),
        "columns": list(columns),
    }
    return options if rows_digest is None else {**options, "rows_digest": rows_digest}


def columns_of(job: JobRecord) -> list[str]:
    """Return the columns of the table that a job was submitted with, in their order."""
    return list(job.options["columns"])


def request_of(job: JobRecord) -> EnrichmentRequest:
    """Return what a job was asked for."""
    return EnrichmentRequest.model_validate(job.options["request"])


def config_of(job: JobRecord) -> PipelineConfig:
    """Return how a job is run."""
    return PipelineConfig.model_validate(job.options["config"])


def row_status(unit: Unit, job_status: str) -> RowStatus:
    """Return how a row stands: by its unit, the step that it is at, and its job."""
    if unit["status"] in _OVER:
        return _OVER[unit["status"]]
    if unit["status"] == "running":
        return _AT.get(unit["step"] or "", RowStatus.PENDING)
    return RowStatus.PAUSED if job_status == "paused" else RowStatus.PENDING


def problem_of(unit: Unit) -> str | None:
    """Say why a row failed or was skipped, in one line."""
    if unit["outcome"] in (None, "done"):
        return None
    said = unit["error_message"] or unit["error_class"]
    return f"{unit['outcome']}: {said}" if said else str(unit["outcome"])


def enriched_row(unit: Unit, job_status: str) -> EnrichedRow:
    """Return a row with what was found for it."""
    output: Mapping[str, Any] = unit["output"] or {}
    cells = {name: Cell.model_validate(cell) for name, cell in output.get("cells", {}).items()}
    return EnrichedRow(
        row_id=unit["unit_key"],
        original_data=unit["input"]["data"],
        enriched_columns={n: c.value if c.is_settled else None for n, c in cells.items()},
        cells=cells,
        metadata=EnrichmentMetadata.model_validate(output.get("metadata", {})),
        status=row_status(unit, job_status),
        error=problem_of(unit),
    )


def row_state(unit: Unit, job_status: str) -> RowState:
    """Return a row as state stores keep it; with its steps, also what they found."""
    steps: Sequence[Mapping[str, Any]] = unit.get("steps") or ()
    found = [s["output"]["results"] for s in steps if s["step"] == "search" and s["output"]]
    pages = [s["output"] for s in steps if s["step"] == "crawl" and s["output"]]
    output: Mapping[str, Any] | None = unit["output"]
    return RowState(
        row_id=unit["unit_key"],
        status=row_status(unit, job_status),
        retry_count=max(unit["tries"] - 1, 0),
        last_error=problem_of(unit),
        search_results=tuple(one for some in found for one in some) if found else None,
        crawl_results=tuple(_without_text(one) for some in pages for one in some)
        if pages
        else None,
        enriched_data=None if output is None else output.get("cells"),
        started_at=_moment(unit["started_at"]),
        completed_at=_moment(unit["completed_at"]),
    )


def _without_text(page: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a page; its text is in the steps."""
    return {name: page.get(name) for name in ("url", "title", "dated", "reason")}


def job_state(
    job: JobRecord, progress: JobProgress | None, rows: Iterable[RowState] = ()
) -> JobState:
    """Return a job with its rows, and with them its batches."""
    config = config_of(job)
    kept = {row.row_id: row for row in rows}
    counts: Mapping[str, int] = progress.counts if progress else {}
    return JobState(
        job_id=job.job_id,
        status=JobStatus(job.status),
        request=request_of(job),
        config=config,
        batches=batches(list(kept.values()), config.batch_size),
        rows=kept,
        total_rows=job.total or 0,
        completed_rows=counts.get("completed", 0),
        failed_rows=counts.get("failed", 0),
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.completed_at,
    )


def result_of(
    job: JobRecord, progress: JobProgress, rows: Iterable[EnrichedRow]
) -> EnrichmentResult:
    """Return what a job has come to so far."""
    end = job.completed_at or progress.now
    return EnrichmentResult(
        job_id=job.job_id,
        status=JobStatus(job.status),
        enriched_rows=tuple(rows),
        total_rows=progress.total,
        successful_rows=progress.counts.get("completed", 0),
        failed_rows=progress.counts.get("failed", 0),
        skipped_rows=progress.counts.get("skipped", 0),
        started_at=job.started_at,
        completed_at=job.completed_at,
        total_duration_seconds=(end - job.started_at).total_seconds() if job.started_at else 0.0,
        config=config_of(job),
    )


def batches(rows: Sequence[RowState], size: int) -> dict[str, BatchState]:
    """Return rows that stand one after the other as batches."""
    found = (_batch(n, rows[at : at + size]) for n, at in enumerate(range(0, len(rows), size), 1))
    return {batch.batch_id: batch for batch in found}


def _batch(number: int, rows: Sequence[RowState]) -> BatchState:
    over = {RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.SKIPPED, RowStatus.CANCELLED}
    started = [row.started_at for row in rows if row.started_at]
    ended = [row.completed_at for row in rows if row.completed_at]
    if all(row.status in over for row in rows):
        failed = all(row.status is RowStatus.FAILED for row in rows)
        status = BatchStatus.FAILED if failed else BatchStatus.COMPLETED
    elif started:
        status = BatchStatus.PROCESSING
    else:
        status = BatchStatus.PENDING
    is_over = status in {BatchStatus.COMPLETED, BatchStatus.FAILED}
    return BatchState(
        batch_id=f"batch-{number}",
        status=status,
        row_ids=tuple(row.row_id for row in rows),
        started_at=min(started, default=None),
        completed_at=max(ended, default=None) if is_over else None,
    )


def progress_body(progress: JobProgress) -> dict[str, Any]:
    """Return progress in the words of the plan; `percent` is of the completed rows."""
    counts = progress.counts
    completed = counts.get("completed", 0)
    eta = None if progress.eta_s is None else progress.now + timedelta(seconds=progress.eta_s)
    return {
        "job_id": progress.job_id,
        "status": progress.status,
        "progress": {
            "total": progress.total,
            "completed": completed,
            "failed": counts.get("failed", 0),
            "skipped": counts.get("skipped", 0),
            "percent": round(100 * completed / progress.total, 1) if progress.total else 100.0,
        },
        "started_at": _text(progress.started_at),
        "estimated_completion": _text(eta),
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
