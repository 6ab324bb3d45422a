"""Workbooks and Parquet in, and what is no table at all."""

from __future__ import annotations

import datetime as dt
import random
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import xlsxwriter

from llm_common.enrichment.tables import Table, open_table
from llm_common.errors import InvalidInputError
from tests import children

AFTERNOON = dt.datetime(2024, 5, 1, 13, 4)  # noqa: DTZ001 - a spreadsheet knows no zones
MIDNIGHT = dt.datetime(2024, 5, 2)  # noqa: DTZ001


def rows(table: Table) -> list[list[Any]]:
    return [list(row.values()) for batch in table.batches() for row in batch]


def workbook(path: Path, sheets: dict[str, list[list[Any]]], top: int = 0) -> Path:
    """Write sheets; `top` blank rows stand above each header."""
    with xlsxwriter.Workbook(str(path), {"strings_to_formulas": False}) as book:
        formats = {
            dt.date: book.add_format({"num_format": "yyyy-mm-dd"}),
            dt.datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            dt.time: book.add_format({"num_format": "hh:mm"}),
        }
        for name, content in sheets.items():
            sheet = book.add_worksheet(name)
            for i, row in enumerate(content, start=top):
                for j, value in enumerate(row):
                    if type(value) in formats:
                        sheet.write_datetime(i, j, value, formats[type(value)])
                    elif value is not None:
                        sheet.write(i, j, value)
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        open_table(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def outcome(path: Path) -> str:
    """Say what became of a damaged file; anything but rows or our own sentence is an error."""
    try:
        return f"rows: {len(rows(open_table(path)))}"
    except InvalidInputError as error:
        return str(error)


def test_cells_of_a_workbook(tmp_path: Path) -> None:
    content = [
        ["text", "id", "ratio", "yes", "day", "moment", "hour"],
        ["00501", 501, 1.5, True, dt.date(2024, 5, 1), AFTERNOON, dt.time(8)],
        ["=1+1", 502, 2, False, dt.date(2024, 5, 2), MIDNIGHT, dt.time(9, 30)],
        ["+1 555", None, None, None, None, None, None],
    ]
    table = open_table(workbook(tmp_path / "t.xlsx", {"One": content}))
    assert table.columns == tuple(content[0])
    assert rows(table) == [
        ["00501", 501, 1.5, True, "2024-05-01", "2024-05-01T13:04:00", "08:00:00"],
        ["=1+1", 502, 2, False, "2024-05-02", "2024-05-02", "09:30:00"],
        ["+1 555", None, None, None, None, None, None],
    ]
    assert table.count == 3


def test_no_cell_of_a_mixed_column_is_lost(tmp_path: Path) -> None:
    content = [
        ["a", "b", "c", "d"],
        [1, dt.date(2024, 5, 1), True, "00501"],
        ["one", "n/a", 1, 501],
        [1.5, dt.date(2024, 5, 2), 0, 1.25],
    ]
    table = open_table(workbook(tmp_path / "t.xlsx", {"One": content}))
    assert rows(table) == [
        ["1", "2024-05-01", "true", "00501"],
        ["one", "n/a", "1", "501"],
        ["1.5", "2024-05-02", "0", "1.25"],
    ]


def test_a_type_that_changes_far_down(tmp_path: Path) -> None:
    content: list[list[Any]] = [["a", "b"], *([n, n] for n in range(3000)), ["late", 3000]]
    got = rows(open_table(workbook(tmp_path / "t.xlsx", {"One": content})))
    assert (got[0], got[-1]) == (["0", 0], ["late", 3000])


def test_blank_rows_and_columns_without_a_name(tmp_path: Path) -> None:
    content = [["name", None, "state"], ["x", "y", "z"], [None, None, None], ["p", "q", "r"]]
    table = open_table(workbook(tmp_path / "t.xlsx", {"One": [*content, [" "], [""]]}, top=2))
    assert table.columns == ("name", "column 2", "state")
    assert rows(table)[:3] == [["x", "y", "z"], [None, None, None], ["p", "q", "r"]]


def test_an_open_document_spreadsheet(tmp_path: Path) -> None:
    office = "urn:oasis:names:tc:opendocument:xmlns:"
    cells = [["name", "zip"], ["Zoë", "00501"]]
    table = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{value}</text:p>'
            "</table:table-cell>"
            for value in row
        )
        + "</table:table-row>"
        for row in cells
    )
    content = (
        f'<office:document-content xmlns:office="{office}office:1.0" '
        f'xmlns:table="{office}table:1.0" xmlns:text="{office}text:1.0"><office:body>'
        f'<office:spreadsheet><table:table table:name="One">{table}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    path = tmp_path / "t.ods"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f'<m:manifest xmlns:m="{office}manifest:1.0"/>')
        archive.writestr("content.xml", content)
    table_read = open_table(path)
    assert table_read.columns == ("name", "zip")
    assert rows(table_read) == [["Zoë", "00501"]]


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"One": [["a"], [1]], "Two": [["b"], [2]], "Void": []})
    assert rows(open_table(path)) == [[1]]
    assert rows(open_table(path, sheet="Two")) == [[2]]
    assert "its sheets are One, Two, Void" in refused(path, sheet="two")
    assert "'Void' of t.xlsx is empty" in refused(path, sheet="Void")


def test_a_header_alone(tmp_path: Path) -> None:
    table = open_table(workbook(tmp_path / "t.xlsx", {"One": [["a", "b"]]}))
    assert (table.columns, table.count, list(table.batches())) == (("a", "b"), 0, [])


def test_an_empty_workbook(tmp_path: Path) -> None:
    assert "is empty" in refused(workbook(tmp_path / "t.xlsx", {"One": []}))


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"One": [["a", "b", "a"], [1, 2, 3]]})
    assert "several columns called 'a'" in refused(path)


@pytest.mark.parametrize("suffix", [".xlsx", ".xls"])
def test_a_password_is_named(tmp_path: Path, suffix: str) -> None:
    entry = "EncryptedPackage".encode("utf-16-le").ljust(128, b"\0")
    path = tmp_path / f"secret{suffix}"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(1024, b"\0") + entry)
    assert refused(path) == f"{path.name} is password-protected: save it without a password"


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods", ".xlsb"])
@pytest.mark.parametrize("content", [b"PK\x03\x04junk", b"a,b\n1,2\n", b"\xd0\xcf\x11\xe0" * 200])
def test_what_is_no_workbook(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    assert "damaged or no spreadsheet" in refused(path)
    path.write_bytes(b"")
    assert "is empty" in refused(path)


def test_a_damaged_workbook_is_a_table_or_refused_in_a_sentence(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"One": [["a", "b"], *([n, f"n{n}"] for n in range(50))]})
    whole, damaged = path.read_bytes(), random.Random(7)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(damaged.randrange(1, 6)):
            content[damaged.randrange(len(content))] = damaged.randrange(256)
        path.write_bytes(content[: damaged.choice([len(content), damaged.randrange(len(content))])])
        assert outcome(path).startswith(("rows", "t.xlsx", "sheet"))


def test_a_damaged_sheet_within_a_sound_archive(tmp_path: Path) -> None:
    source = workbook(tmp_path / "t.xlsx", {"One": [["a", "b"], *([n, n] for n in range(99))]})
    broken = tmp_path / "broken.xlsx"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[: len(content) // 2] if "sheet1" in name else content)
    assert "damaged or no spreadsheet" in refused(broken)


def test_values_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame(
        {
            "text": ["007", ""],
            "n": [2**60, None],
            "x": [0.5, float("nan")],
            "day": [dt.date(2024, 5, 1), None],
            "at": [dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC), None],
            "price": [Decimal("1.50"), None],
            "tags": [["a", "b"], []],
            "where": [{"lat": 1.5}, None],
            "raw": [b"\x00\xff", None],
        }
    ).write_parquet(path)
    table = open_table(path)
    assert (table.count, len(table.columns)) == (2, 9)
    assert rows(table) == [
        ["007", 2**60, 0.5, "2024-05-01", "2024-05-01T12:00:00+00:00", "1.50", ["a", "b"],
         {"lat": 1.5}, "00ff"],
        [None, None, None, None, None, None, [], None, None],
    ]  # fmt: skip


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": range(1000), "b": ["text"] * 1000}).write_parquet(path)
    content = path.read_bytes()
    for broken in (b"", b"junk" * 99, content[:-9], content[200:]):
        path.write_bytes(broken)
        with pytest.raises(InvalidInputError, match="damaged or no Parquet file"):
            rows(open_table(path))
    path.write_bytes(content)
    table = open_table(path)
    path.write_bytes(b"PAR1" + b"\xff" * len(content))
    with pytest.raises(InvalidInputError, match="damaged"):
        rows(table)


@pytest.mark.parametrize("seed", [745, 1257, 2320])
def test_a_damaged_parquet_file_is_a_table_or_refused(tmp_path: Path, seed: int) -> None:
    path, damage = tmp_path / "t.parquet", random.Random(seed)
    frame = pl.DataFrame({"a": range(1000), "b": [f"t{n}" for n in range(1000)]})
    frame.with_columns(c=pl.concat_list("a")).write_parquet(path)
    whole = path.read_bytes()
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(damage.randrange(1, 6)):
            content[-damage.randrange(1, 600)] = damage.randrange(256)
        path.write_bytes(content)
        assert outcome(path).startswith(("rows", "t.parquet"))


def test_a_parquet_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    assert rows(open_table(path)) == [[1]]


async def test_without_the_extra_csv_is_read_and_the_others_name_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    for name in ("t.xlsx", "t.parquet"):
        (tmp_path / name).write_bytes(b"x")
    code = f"""
import sys
from pathlib import Path
sys.modules |= dict.fromkeys(["polars", "fastexcel", "xlsxwriter"])
from llm_common.enrichment.tables import open_table, write_table
from llm_common.errors import MissingExtraError

folder = Path({str(tmp_path)!r})
print(list(open_table(folder / "t.csv").batches()))
write_table(folder / "out.csv", ["a"], [], [])
for call in (
    lambda: open_table(folder / "t.xlsx"),
    lambda: open_table(folder / "t.parquet"),
    lambda: write_table(folder / "out.xlsx", ["a"], [], []),
    lambda: write_table(folder / "out.parquet", ["a"], [], []),
):
    try:
        call()
    except MissingExtraError as error:
        print(error)
"""
    first, *said = (await children.run(code)).splitlines()
    assert first == "[[{'a': '1', 'b': '2'}]]"
    assert said == [
        f"{package} is not installed: pip install 'llm-common[tables]'"
        for package in ("fastexcel", "polars", "xlsxwriter", "polars")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.csv", "t.csv", "t.parquet", "t.xlsx"
    ]  # fmt: skip


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "table").write_text("x")
    assert "ends in .txt, and a table ends in .csv" in refused(tmp_path / "notes.txt")
    assert "has no ending" in refused(tmp_path / "table")
    assert "there is no file" in refused(tmp_path / "absent.csv")
    assert "is a folder" in refused(tmp_path)


def test_arguments_that_do_not_go_together(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n")
    assert "has no sheets" in refused(path, sheet="One")
    assert "goes with a Postgres URL" in refused(path, query="SELECT 1")
    with pytest.raises(InvalidInputError, match="begins with postgresql") as caught:
        open_table("mysql://me:secret@host/db")
    assert "secret" not in str(caught.value)
