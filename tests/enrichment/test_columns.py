"""Normal values, when two are the same, and whether a passage holds one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.columns import identity, normal_value, places
from llm_common.enrichment.models import Column
from llm_common.enrichment.regions import region_of

PARTY = "party:choice(Democratic|Republican|Working Families)"


@pytest.mark.parametrize(
    ("column", "raw", "value"),
    [
        ("p:phone", "(916) 319-2024 ext. 12", "+19163192024 ext. 12"),
        ("p:phone", "1-916.319.2024", "+19163192024"),
        ("p:phone", "+44 20 7946 0958", "+442079460958"),
        ("p:phone", "319-2024", None),
        ("p:phone", "123-456-7890", None),
        ("e:email", "mailto:John.Smith@ASM.CA.gov", "John.Smith@asm.ca.gov"),
        ("e:email", "john [at] asm [dot] ca.gov", "john@asm.ca.gov"),
        ("e:email", "a@b.org, c@d.org", None),
        ("d:date", "March 5th, 2020", "2020-03-05"),
        ("d:date", "5 March 2020", "2020-03-05"),
        ("d:date", "3/5/2020", "2020-03-05"),
        ("d:date", "25/12/2020", "2020-12-25"),
        ("d:date", "2020-03-05T10:00:00Z", "2020-03-05"),
        ("d:date", "Sept. 2019", "2019-09"),
        ("d:date", 1921, "1921"),
        ("d:date", "Feb 30, 2020", None),
        ("d:date", "2019 or 2020", None),
        ("n:number", "1,234.50", 1234.5),
        ("n:number", "$4.5 million", 4_500_000),
        ("n:number", "12345678901234567.125", "12345678901234567.125"),
        ("n:number", "10-20", None),
        ("n:number", "seven", 7),
        ("n:number", True, None),
        ("n:number", float("nan"), None),
        ("i:integer", 24.0, 24),
        ("i:integer", "24.5", None),
        ("b:boolean", "Yes", True),
        ("b:boolean", False, False),
        ("b:boolean", "perhaps", None),
        ("u:url", "WWW.Kern.example/a/../b#c", "https://www.kern.example/b"),
        ("u:url", "kern tools", None),
        ("u:url", "javascript:alert(1)", None),
        (PARTY, "democrat", "Democratic"),
        (PARTY, "REPUBLICANS", "Republican"),
        (PARTY, "working families", "Working Families"),
        (PARTY, "(R)", "Republican"),
        (PARTY, "D-Fresno", None),
        (PARTY, "X", None),
        ("rank:choice(Red|Blue)", "R", None),
        (PARTY, "Green", None),
        ("t", "  two \n words ", "two words"),
        ("t", "N/A", None),
        ("t", "unknown", None),
        ("t", ["a"], None),
        ("t", True, None),
    ],
)
def test_normal_values(column: str, raw: Any, value: Any) -> None:
    assert normal_value(Column.parse(column), raw) == value


def test_a_region_decides() -> None:
    phone, day = Column.parse("p:phone"), Column.parse("d:date")
    assert normal_value(phone, "020 7946 0958", region="GB") == "+442079460958"
    assert normal_value(day, "3/5/2020", region="GB") == "2020-05-03"
    assert region_of({"country": "United Kingdom"}) == "GB"
    assert region_of({"state": "CA"}, [{"url": "https://x.co.uk/"}]) == "US"
    assert region_of({"name": "x"}, [{"url": "https://x.co.uk/"}]) == "GB"
    assert region_of({"name": "x"}, [{"url": "https://x.org/"}]) == "US"


@pytest.mark.parametrize(
    ("column", "value", "passage", "stands"),
    [
        ("p:phone", "+19163192024", "Call 916.319.2024 today", True),
        ("p:phone", "+19163192024", "Phone916 319 2024Email", True),
        ("p:phone", "+19163192024", "916-319-2024 x5", True),
        ("p:phone", "+19163192024 ext. 5", "916-319-2024", False),
        ("p:phone", "+19163192024", "916-319-20245", False),
        ("d:date", "2020-03-05", "on the 5th of March, 2020", True),
        ("d:date", "2020-03-05", "in March 2020", False),
        ("d:date", "2020-03", "on March 5, 2020", True),
        ("d:date", "2020-03-05", "5/3/2020", False),
        ("n:number", 1234, "1,234 people", True),
        ("n:number", 1234, "1,234.5 people", False),
        ("n:number", 319, "916-319-2024", False),
        ("i:integer", 5, "in 2025", False),
        ("i:integer", -5, "at -5 degrees", True),
        ("i:integer", 5, "at -5 degrees", False),
        ("i:integer", 5, "§5/12", False),
        ("e:email", "john@asm.ca.gov", "John@ASM.ca.gov.", True),
        ("e:email", "john@asm.ca.gov", "big.john@asm.ca.gov", False),
        ("e:email", "john@asm.ca.gov", "john@asm.ca.gov.evil.example", False),
        ("u:url", "https://kern.example/", "see www.kern.example", True),
        ("u:url", "https://kern.example/", "see notkern.example", False),
        (PARTY, "Democratic", "a Democrat from Fresno", True),
        (PARTY, "Democratic", "democratically", False),
        (PARTY, "Democratic", "John Smith (D-Fresno)", True),
        (PARTY, "Democratic", "John Smith, D-CA", True),
        (PARTY, "Democratic", "John Smith (R-Fresno)", False),
        (PARTY, "Democratic", "Plan D", False),
        ("t", "O’Neil Building", "the O'Neil  building", True),
        ("t", "art", "party", False),
        ("is_open:boolean", True, "The office is open.", True),
        ("is_open:boolean", True, "The office is not open.", False),
        ("is_open:boolean", False, "The office is not open.", True),
        ("is_open:boolean", True, "Nothing of the kind.", False),
    ],
)
def test_a_passage_holds_a_value(column: str, value: Any, passage: str, stands: bool) -> None:
    assert bool(places(Column.parse(column), value, passage)) is stands


def test_same_values() -> None:
    url, text = Column.parse("u:url"), Column.parse("t")
    assert identity(url, "https://www.kern.example/") == identity(url, "http://kern.example")
    assert identity(text, "O’Neil  Building") == identity(text, "o'neil building")
    assert identity(text, "x") != identity(text, "y")
    number = Column.parse("n:number")
    assert identity(number, 1) == identity(number, 1.0)


@given(
    st.text(max_size=60), st.sampled_from(["t", "p:phone", "d:date", "n:number", "u:url", PARTY])
)
def test_a_normal_value_is_normal_and_is_json(raw: str, kind: str) -> None:
    column = Column.parse(kind)
    value = normal_value(column, raw)
    assert normal_value(column, value) == value
    assert json.loads(json.dumps(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_numbers_are_exact(number: Decimal) -> None:
    value = normal_value(Column.parse("n:number"), number)
    assert Decimal(str(value)) == number


@given(st.text(max_size=40), st.text(max_size=80))
def test_places_are_in_the_passage(value: str, passage: str) -> None:
    for start, end in places(Column.parse("t"), value, passage):
        assert 0 <= start < end <= len(passage)
