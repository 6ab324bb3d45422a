"""CSV in: what stands there is what is read, and what is broken is refused before it costs."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.tables import Table, open_table
from llm_common.errors import InvalidInputError
from tests.support import UNHURRIED, data_dir


def rows(table: Table, size: int = 1000) -> list[list[Any]]:
    return [list(row.values()) for batch in table.batches(size) for row in batch]


def count_of(table: Table) -> int | str:
    try:
        return len(rows(table))
    except InvalidInputError as error:
        return str(error)


def saved(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        for _ in open_table(path, **options).batches():
            pass
    return str(caught.value)


def test_values_stay_the_text_that_stands_there(tmp_path: Path) -> None:
    values = ["007", "+1 555 010 0000", "12345678901234567890", "1e5", "TRUE", " x ", "1.50", "NA"]
    path = saved(tmp_path, "a,b,c,d,e,f,g,h\n" + ",".join(values) + "\n")
    assert rows(open_table(path)) == [values]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    text = separator.join(["name", "city", "note"]) + "\r\n"
    text += separator.join(["Zoë Łukasz", "Köln 東京", '"a, b; c\td"']) + "\r\n"
    table = open_table(saved(tmp_path, text.encode(encoding)))
    assert table.columns == ("name", "city", "note")
    assert rows(table) == [["Zoë Łukasz", "Köln 東京", "a, b; c\td"]]


def test_windows_1252_is_read_where_the_file_is_not_utf8(tmp_path: Path) -> None:
    path = saved(tmp_path, "name,price\nCafé “Zoë”,5 €\n".encode("cp1252"))
    assert rows(open_table(path)) == [["Café “Zoë”", "5 €"]]


def test_utf8_that_breaks_far_down_is_refused_by_its_line(tmp_path: Path) -> None:
    good = "name,city\n" + "Zoë,Köln\n" * 20_000
    path = saved(tmp_path, good.encode() + b"Jos\xe9,Bonn\n")
    assert "line 20002" in refused(path)


def test_bytes_that_are_no_text_of_any_kind(tmp_path: Path) -> None:
    assert "save it as UTF-8" in refused(saved(tmp_path, b"a,b\n\x81\x8d,x\n"))
    assert "no text file" in refused(saved(tmp_path, bytes(range(256)) * 4))
    assert "such as .xlsx" in refused(saved(tmp_path, b"PK\x03\x04" + b"x" * 99))


@pytest.mark.parametrize(
    ("text", "columns", "first"),
    [
        ("Name\nSmith, John\n", ("Name",), ["Smith, John"]),
        ("Name\nJohn\n", ("Name",), ["John"]),
        ("id;note\n1;a, b, c\n2;d\n", ("id", "note"), ["1", "a, b, c"]),
        ("id,note\n1,a;b\n2,c;d\n3,e;f\n", ("id", "note"), ["1", "a;b"]),
        ('a,b\n1,"x;y;z"\n', ("a", "b"), ["1", "x;y;z"]),
    ],
)
def test_the_separator_is_what_most_lines_agree_on(
    tmp_path: Path, text: str, columns: tuple[str, ...], first: list[str]
) -> None:
    table = open_table(saved(tmp_path, text))
    assert (table.columns, rows(table)[0]) == (columns, first)


def test_a_tsv_may_hold_commas(tmp_path: Path) -> None:
    table = open_table(saved(tmp_path, "a\tb, c\n1\t2, 3\n", "table.tsv"))
    assert rows(table) == [["1", "2, 3"]]


def test_short_records_lack_values_and_blank_lines_are_none(tmp_path: Path) -> None:
    table = open_table(saved(tmp_path, "a,b,c\n\n1\n1,2,3,,\n\n,,\n"))
    assert rows(table) == [["1", None, None], ["1", "2", "3"], [None, None, None]]
    assert table.count == 3


def test_records_that_are_too_long_are_refused_with_their_lines(tmp_path: Path) -> None:
    text = "a,b\n" + "1,2\n" * 3000 + "1,2,3\n" + '"two\nlines",2,3\n' + "x,y\n"
    said = refused(saved(tmp_path, text))
    assert "2 records have more values than its 2 columns (line 3002, 3004)" in said


def test_a_quote_that_is_never_closed_swallows_no_rows(tmp_path: Path) -> None:
    said = refused(saved(tmp_path, 'a,b\n1,2\n3,"four\n5,6\n7,8\n'))
    assert "quotes" in said
    assert "quotes" in refused(saved(tmp_path, 'a,b\n1,"two" three\n'))


@pytest.mark.parametrize("content", [b"", b"\n\r\n", b"  \n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    said = refused(saved(tmp_path, content))
    assert "empty" in said or "no columns" in said


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    table = open_table(saved(tmp_path, "name,state"))
    assert (table.columns, table.count, list(table.batches())) == (("name", "state"), 0, [])


def test_names_of_columns(tmp_path: Path) -> None:
    said = refused(saved(tmp_path, "name,state,name,state\n1,2,3,4\n"))
    assert "several columns called 'name', 'state'" in said
    table = open_table(saved(tmp_path, ",name,\n0,x,y\n"))
    assert table.columns == ("column 1", "name", "column 3")


def test_a_value_may_be_longer_than_the_reader_s_default(tmp_path: Path) -> None:
    page = "word " * 100_000
    assert rows(open_table(saved(tmp_path, f"a,b\n1,{page}\n"))) == [["1", page]]


def test_a_file_that_changes_after_it_was_opened(tmp_path: Path) -> None:
    path = saved(tmp_path, "a,b\n1,2\n")
    table = open_table(path)
    saved(tmp_path, "b,a\n1,2\n")
    with pytest.raises(InvalidInputError, match="changed since"):
        next(table.batches())
    path.unlink()
    with pytest.raises(InvalidInputError, match="can't be read"):
        next(table.batches())


def test_batches_are_of_their_size_and_can_be_had_again(tmp_path: Path) -> None:
    table = open_table(saved(tmp_path, "n\n" + "".join(f"{n}\n" for n in range(25))))
    assert [len(batch) for batch in table.batches(10)] == [10, 10, 5]
    assert rows(table, 7) == rows(table) == [[str(n)] for n in range(25)]
    with pytest.raises(InvalidInputError, match="at least one row"):
        next(table.batches(0))


def test_a_real_table() -> None:
    path = data_dir("people") / "legislators.csv"
    table = open_table(path)
    with path.open(encoding="utf-8", newline="") as file:
        expected = list(csv.DictReader(file))
    got = [row for batch in table.batches() for row in batch]
    assert [{k: v or "" for k, v in row.items()} for row in got] == expected
    assert table.count == len(expected) == 478


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


@UNHURRIED
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=20), st.sampled_from([",", "\t"]))
def test_whatever_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, ...]], separator: str
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator)
    writer.writerows([("first", "second", "third"), *records])
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(out.getvalue().encode())
    assert rows(open_table(path)) == [[value or None for value in record] for record in records]


@UNHURRIED
@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = saved(tmp_path_factory.mktemp("csv"), content)
    with suppress(InvalidInputError):
        table = open_table(path)
        # What could be opened can be read.
        assert count_of(table) == table.count
