"""What a job came to, as JSON or as a file; rows are read as they are written."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path

from ...enrichment import EnrichmentPipeline
from ...enrichment.reading import columns_of, request_of, result_of
from ...enrichment.row_files import write_rows
from ...runs import JobProgress, JobRecord


async def result_json(
    pipeline: EnrichmentPipeline, job: JobRecord, far: JobProgress
) -> AsyncGenerator[str]:
    """Yield an `EnrichmentResult` as JSON, row by row."""
    whole = result_of(job, far, ()).model_dump_json()
    before, after = whole.split('"enriched_rows":[]', 1)
    yield f'{before}"enriched_rows":['
    separator = ""
    async for row in pipeline.rows(job.job_id):
        yield separator + row.model_dump_json()
        separator = ","
    yield f"]{after}"


async def result_file(
    pipeline: EnrichmentPipeline, job: JobRecord, folder: Path, suffix: str
) -> Path:
    """Write the rows of a job to a file in a folder, and return its path.

    Raises:
        InvalidInputError: they do not fit the format.
        MissingExtraError: the extra `tables` is not installed.
    """
    path = folder / f"{file_name(job.job_id)}{suffix}"
    rows = pipeline.rows(job.job_id)
    await write_rows(path, columns_of(job), rows, request_of(job).columns_to_enrich)
    return path


def file_name(job_id: str) -> str:
    """Return a file name for a job, whatever its id is made of."""
    return "enrichment-" + (re.sub(r"[^A-Za-z0-9_-]+", "-", job_id)[:60].strip("-") or "job")
