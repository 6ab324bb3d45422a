"""Job state in files: whole or not there, whatever is killed, and never outside its folder."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.enrichment.models import (
    BatchState,
    BatchStatus,
    EnrichmentRequest,
    JobState,
    JobStatus,
    PipelineConfig,
    RowState,
    RowStatus,
)
from llm_common.enrichment.state_files import FileSystemStateStore
from llm_common.errors import InvalidInputError
from tests import children
from tests.support import UNHURRIED

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
REQUEST = EnrichmentRequest(keys=("name",), columns_to_enrich=("phone:phone",))


def job(job_id: str = "job-1", **fields: Any) -> JobState:
    given = {"status": JobStatus.RUNNING, "created_at": NOON, **fields}
    return JobState(job_id=job_id, request=REQUEST, config=PipelineConfig(), **given)


@pytest.fixture
def store(tmp_path: Path) -> FileSystemStateStore:
    return FileSystemStateStore(tmp_path / "state")


async def test_what_is_saved_is_loaded(store: FileSystemStateStore) -> None:
    rows = {"a": RowState(row_id="a"), "b": RowState(row_id="b", status=RowStatus.FAILED)}
    batches = {"1": BatchState(batch_id="1", status=BatchStatus.PROCESSING, row_ids=("a", "b"))}
    whole = job(batches=batches, rows=rows, total_rows=2, started_at=NOON)
    await store.save_job_state(whole)
    assert await store.load_job_state("job-1") == whole


async def test_rows_outlast_a_save_of_the_job_alone(store: FileSystemStateStore) -> None:
    await store.save_job_state(job(total_rows=1))
    done = RowState(row_id="a", status=RowStatus.COMPLETED, enriched_data={"phone": "+1"})
    await store.save_row_state("job-1", RowState(row_id="a"))
    await store.save_row_state("job-1", done)
    await store.save_job_state(job(status=JobStatus.COMPLETED, total_rows=1, completed_rows=1))
    loaded = await store.load_job_state("job-1")
    assert loaded is not None
    assert (loaded.status, loaded.rows) == (JobStatus.COMPLETED, {"a": done})


async def test_what_is_not_there(store: FileSystemStateStore) -> None:
    assert await store.load_job_state("nobody") is None
    assert await store.list_job_ids() == []
    await store.delete_job_state("nobody")
    await store.save_row_state("early", RowState(row_id="a"))
    assert await store.load_job_state("early") is None
    assert await store.list_job_ids() == []


async def test_jobs_are_listed_the_latest_first(store: FileSystemStateStore) -> None:
    for hours, (name, status) in enumerate(
        [("a", JobStatus.PAUSED), ("c", JobStatus.RUNNING), ("b", JobStatus.RUNNING)]
    ):
        created = NOON + timedelta(hours=hours)
        await store.save_job_state(job(name, status=status, created_at=created))
    assert await store.list_job_ids() == ["b", "c", "a"]
    assert await store.list_job_ids(JobStatus.RUNNING) == ["b", "c"]
    assert await store.list_job_ids(JobStatus.FAILED) == []


async def test_a_deleted_job_leaves_nothing(store: FileSystemStateStore, tmp_path: Path) -> None:
    for name in ("old", "kept"):
        await store.save_job_state(job(name, rows={"a": RowState(row_id="a")}))
    await store.delete_job_state("old")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["kept"]
    await store.save_job_state(job("old"))
    again = await store.load_job_state("old")
    assert again is not None
    assert again.rows == {}


@pytest.mark.parametrize(
    "job_id",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", ".hidden", "é", "x" * 101],
)
async def test_an_id_that_is_no_plain_name(
    store: FileSystemStateStore, tmp_path: Path, job_id: str
) -> None:
    for call in (
        store.save_job_state(job(job_id)),
        store.save_row_state(job_id, RowState(row_id="a")),
        store.load_job_state(job_id),
        store.delete_job_state(job_id),
    ):
        with pytest.raises(InvalidInputError, match="can't be a job's id"):
            await call
    assert list(tmp_path.rglob("*")) == []


async def test_ids_of_rows_may_be_anything(store: FileSystemStateStore, tmp_path: Path) -> None:
    ids = ["../../x", "A", "a", "", "row 1", "é" * 300, "~", "/", "nul\0"]
    await store.save_job_state(job())
    for number, row_id in enumerate(ids):
        await store.save_row_state("job-1", RowState(row_id=row_id, retry_count=number))
    loaded = await store.load_job_state("job-1")
    assert loaded is not None
    assert {row.row_id: row.retry_count for row in loaded.rows.values()} == {
        row_id: number for number, row_id in enumerate(ids)
    }
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"format": 1}', b'{"format": 1, "state": {"x": 1}}',
     b'{"state": {}}', b"[" * 100_000],
)  # fmt: skip
@pytest.mark.parametrize("name", ["job.json", "rows/a.json"])
async def test_a_damaged_file(
    store: FileSystemStateStore, tmp_path: Path, name: str, content: bytes
) -> None:
    await store.save_job_state(job(rows={"a": RowState(row_id="a")}))
    (tmp_path / "state" / "job-1" / name).write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        await store.load_job_state("job-1")
    assert str(caught.value).startswith(f"the state file job-1/{name} is damaged: ")
    await store.delete_job_state("job-1")
    assert await store.load_job_state("job-1") is None


async def test_a_file_of_another_version(store: FileSystemStateStore, tmp_path: Path) -> None:
    await store.save_job_state(job())
    file = tmp_path / "state" / "job-1" / "job.json"
    later = json.loads(file.read_text()) | {"format": 2}
    file.write_text(json.dumps(later))
    for call in (store.load_job_state("job-1"), store.list_job_ids()):
        with pytest.raises(InvalidInputError, match=r"is of format 2, and .* reads format 1"):
            await call


async def test_saves_at_the_same_time(store: FileSystemStateStore, tmp_path: Path) -> None:
    await store.save_job_state(job())
    saves = [
        store.save_row_state("job-1", RowState(row_id=f"r{n % 50}", retry_count=n // 50))
        for n in range(200)
    ]
    await asyncio.gather(*saves, *(store.save_job_state(job(total_rows=n)) for n in range(20)))
    loaded = await store.load_job_state("job-1")
    assert loaded is not None
    assert loaded.rows.keys() == {f"r{n}" for n in range(50)}
    assert list(tmp_path.rglob("*.tmp")) == []


async def test_ten_thousand_rows(store: FileSystemStateStore, tmp_path: Path) -> None:
    rows = {f"{n:016x}": RowState(row_id=f"{n:016x}") for n in range(10_000)}
    await store.save_job_state(job(rows={"0": RowState(row_id="0")}))
    saved = tmp_path / "state" / "job-1" / "rows" / "0.json"
    content = saved.read_text()
    saved.unlink()
    # Not by the store: it waits for the disk at each of them.
    for row_id in rows:
        copy = content.replace('"row_id": "0"', f'"row_id": "{row_id}"')
        saved.with_name(f"{row_id}.json").write_text(copy)
    assert await store.load_job_state("job-1") == job(rows=rows)


WRITER = """
import asyncio, sys
from llm_common.enrichment.state_files import FileSystemStateStore
from tests.enrichment.test_state_files import RowState, job

async def main():
    store = FileSystemStateStore({path!r})
    for n in range(1_000_000):
        if n % 20 == 19:
            await store.delete_job_state("job-1")
        await store.save_job_state(job(total_rows=n))
        pages = tuple({{"text": "word " * 2000}} for _ in range(5))
        row = RowState(row_id=f"r{{n % 7}}", retry_count=n, crawl_results=pages)
        await store.save_row_state("job-1", row)
        print(n, flush=True)

asyncio.run(main())
"""


async def test_a_process_killed_at_any_moment_leaves_state_that_loads(tmp_path: Path) -> None:
    moments = random.Random(11)
    for _ in range(8):
        process = await children.start(WRITER.format(path=str(tmp_path)))
        assert process.stdout is not None
        async with asyncio.timeout(60):
            first = int(await process.stdout.readline())
        await asyncio.sleep(moments.random() * 0.3)
        process.kill()
        out, _ = await process.communicate()
        assert process.returncode == -signal.SIGKILL
        last = int(out.split()[-1]) if out.split() else first
        loaded = await FileSystemStateStore(tmp_path).load_job_state("job-1")
        if (last + 1) % 20 == 19:
            continue  # It was being deleted and made anew: whatever there is has loaded.
        assert loaded is not None
        assert loaded.total_rows >= last
        assert max(row.retry_count for row in loaded.rows.values()) >= last


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False) | st.just("\ud800 half a character"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)  # fmt: skip
PAGES = st.none() | st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=3)
MOMENT = st.none() | st.datetimes(timezones=st.just(UTC))
ROW = st.builds(
    RowState,
    row_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    status=st.sampled_from(RowStatus),
    retry_count=st.integers(0, 99),
    last_error=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    search_results=PAGES.map(lambda found: None if found is None else tuple(found)),
    crawl_results=PAGES.map(lambda found: None if found is None else tuple(found)),
    enriched_data=st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    started_at=MOMENT,
    completed_at=MOMENT,
)


@settings(UNHURRIED, max_examples=60)
@given(st.lists(ROW, max_size=4, unique_by=lambda row: row.row_id), st.sampled_from(JobStatus))
def test_any_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[RowState], status: JobStatus
) -> None:
    store = FileSystemStateStore(tmp_path_factory.mktemp("state"))
    whole = job(status=status, rows={row.row_id: row for row in rows})

    async def there_and_back() -> JobState | None:
        await store.save_job_state(whole)
        return await store.load_job_state("job-1")

    assert asyncio.run(there_and_back()) == whole
