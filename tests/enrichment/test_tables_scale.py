"""A million rows pass through in the memory that a hundred thousand take."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import polars as pl
import pytest

from llm_common.enrichment.models import Column, EnrichedRow
from llm_common.enrichment.tables import write_table
from llm_common.errors import InvalidInputError
from tests import children, servers

pytestmark = pytest.mark.timeout(1500)

FEW, MANY = 100_000, 1_000_000
FLAT_MB = 80
"""By which the peak of memory that belongs to the process may grow; the file is ten times as large,
and above a hundred. Mapped files are not in it: the system takes their pages back."""

PEAK = """
import re, threading
from pathlib import Path
from llm_common.enrichment.models import Column, EnrichedRow
from llm_common.enrichment.row_ids import identified
from llm_common.enrichment.tables import open_table, write_table

over, seen = threading.Event(), []

def watch():
    while not over.wait(0.01):
        found = re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
        seen.append(int(found[1]) // 1024)

watching = threading.Thread(target=watch)
watching.start()

def done(count):
    over.set()
    watching.join()
    print(count, max(seen))
"""
READ = "done(sum(len(batch) for batch in open_table(*{source!r}, **{options!r}).batches()))"
IDENTIFY = """
table = open_table(*{source!r}, **{options!r})
done(sum(row.problem is None for row in identified(table.batches(), ["id"])))
"""
WRITE = """
def row(n):
    original = {{"id": f"{{n:08d}}", "name": f"Person {{n}}", "note": f"text {{n}} " * 5}}
    found = {{"phone": "+1 916 555 0100"}}
    return EnrichedRow(row_id=str(n), original_data=original, enriched_columns=found)

wanted = [Column(name="phone", type="phone")]
done(write_table({path!r}, ["id", "name", "note"], map(row, range({count})), wanted))
"""


def table(count: int) -> pl.DataFrame:
    numbers = pl.select(n=pl.int_range(count)).lazy()
    n = pl.col("n").cast(pl.String)
    columns = numbers.select(
        id=n.str.zfill(8),
        name=pl.lit("Some Person of the long name ") + n,
        note=pl.concat_str(
            [pl.lit("text"), n, pl.lit("and"), n, pl.lit("again " * 10)], separator=" "
        ),
    )
    return columns.collect()


async def peak_mb(code: str, count: int) -> int:
    done, peak = (await children.output(await children.start(PEAK + code), 600)).split()
    assert int(done) == count
    return int(peak)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(READ, id="read"),
        pytest.param(IDENTIFY, id="identify", marks=pytest.mark.scale),
    ],
)
async def test_files_are_read_as_a_stream(tmp_path: Path, suffix: str, code: str) -> None:
    peaks: list[int] = []
    for count in (FEW, MANY):
        path = tmp_path / f"{count}{suffix}"
        if suffix == ".csv":
            table(count).write_csv(path)
        else:
            # One group of rows: the worst that a reader by slices can meet.
            table(count).write_parquet(path, row_group_size=count)
        peaks.append(await peak_mb(code.format(source=(str(path),), options={}), count))
    # An id is a text of 16 letters, kept with a number.
    allowed = FLAT_MB + (150 if code == IDENTIFY else 0)
    assert peaks[1] - peaks[0] < allowed, peaks


async def test_a_query_is_read_as_a_stream(empty_url: str) -> None:
    servers.execute(
        empty_url,
        f"CREATE TABLE people AS SELECT n AS id, repeat('text ', 20) AS note "
        f"FROM generate_series(1, {MANY}) n",
    )
    peaks: list[int] = []
    for count in (FEW, MANY):
        options = {"query": f"SELECT * FROM people WHERE id <= {count}"}
        peaks.append(await peak_mb(READ.format(source=(empty_url,), options=options), count))
    assert peaks[1] - peaks[0] < FLAT_MB, peaks


@pytest.mark.scale
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".xlsx"])
async def test_files_are_written_as_a_stream(tmp_path: Path, suffix: str) -> None:
    peaks: list[int] = []
    for count in (FEW, MANY) if suffix != ".xlsx" else (FEW // 10, FEW * 2):
        path = tmp_path / f"{count}{suffix}"
        peaks.append(await peak_mb(WRITE.format(path=str(path), count=count), count))
    assert peaks[1] - peaks[0] < FLAT_MB, peaks


@pytest.mark.scale
def test_evidence_that_fills_a_sheet_goes_on_in_another(tmp_path: Path) -> None:
    path, count = tmp_path / "out.xlsx", 105_000
    wanted = [Column(name=f"c{n}") for n in range(10)]
    rows = (EnrichedRow(row_id=str(n), original_data={"n": n}) for n in range(count))
    assert write_table(path, ["n"], rows, wanted) == count
    with zipfile.ZipFile(path) as archive:
        assert b'name="Evidence 2"' in archive.read("xl/workbook.xml")
        more = archive.read("xl/worksheets/sheet3.xml").count(b"<row ")
    assert more == 1 + count * len(wanted) - 1_048_575


@pytest.mark.scale
def test_rows_that_no_one_counted_before_do_not_fit_a_sheet(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    path.write_text("old")
    rows: Iterator[EnrichedRow] = repeat(EnrichedRow(row_id="r", original_data={"n": 1}))
    with pytest.raises(InvalidInputError, match="1,048,575 rows"):
        write_table(path, ["n"], rows, [])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
