"""Dates, hosts, classes, windows and read-only JSON, without anything around them."""

from __future__ import annotations

import copy
import csv
import json
import pickle
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm_common.search import SearchQuery, SearchResult, official_first
from llm_common.search.base import restored
from llm_common.search.normal import is_page, kept, number, published_on, text, texts
from llm_common.search.ranking import host_class, is_government
from llm_common.search.readonly import read_only
from llm_common.web_search.freshness import EMPTY_S, JITTER, WINDOWS, class_of, jitter, windows_of
from tests.support import data_dir

TODAY = date(2026, 11, 21)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("2026-11-03", date(2026, 11, 3)),
        ("2026-11-03T10:00:00.000Z", date(2026, 11, 3)),
        ("2026-11-03 10:00", date(2026, 11, 3)),
        ("Nov 3, 2026", date(2026, 11, 3)),
        ("November 3, 2026", date(2026, 11, 3)),
        ("3 Nov 2026", date(2026, 11, 3)),
        ("Tue, 03 Nov 2026 10:00:00 GMT", date(2026, 11, 3)),
        ("2 days ago", date(2026, 11, 19)),
        ("1 Week Ago", date(2026, 11, 14)),
        ("5 hours ago", TODAY),
        ("99999999999 years ago", None),
        ("2026-13-40", None),
        ("2026", None),
        ("soon", None),
        ("", None),
    ],
)
def test_dates_as_engines_write_them(written: str, day: date | None) -> None:
    assert published_on(written, TODAY) == day


@given(st.text())
def test_no_date_is_an_exception(written: str) -> None:
    published_on(written, TODAY)


@given(JSON)
def test_nothing_of_an_engine_is_an_exception(value: Any) -> None:
    is_page(value)
    text(value)
    texts(value)
    number(value)


@given(st.text())
def test_no_address_is_an_exception(url: str) -> None:
    host_class(f"https://{url}")
    is_page(f"https://{url}")


def test_recency_holds_engines_with_a_day_of_grace() -> None:
    def dated(written: str | None) -> SearchResult:
        return SearchResult(title="t", url="https://a.example", published_date=written, rank=9)

    results = [dated(d) for d in ("2026-11-13", "2026-11-12", None, "soon", "3 days ago")]
    left = kept(results, SearchQuery("q", recency="1w"), TODAY)
    assert [r.published_date for r in left] == ["2026-11-13", None, "soon", "3 days ago"]
    assert [r.rank for r in left] == [1, 2, 3, 4]


OFFICIAL = [
    "leg.colorado.gov",
    "www.congress.gov",
    "www.army.mil",
    "www.legislation.gov.uk",
    "leg.state.nv.us",
    "www.courts.state.nh.us",
    "kslegislature.org",
    "legis.example.net",
]
SCHOLARLY = ["law.cornell.edu", "www.ox.ac.uk", "ballotpedia.org"]
OTHERS = ["news.example.com", "gov.example.com", "legal.example.com", "college.com", "us.com"]


def test_official_sources_come_first_and_the_order_within_stays() -> None:
    hosts = [*OTHERS, *SCHOLARLY, *OFFICIAL]
    results = [
        SearchResult(title="t", url=f"https://{host}/x", rank=rank)
        for rank, host in enumerate(hosts, 1)
    ]
    ordered = official_first(results)
    assert [r.url[8:-2] for r in ordered] == [*OFFICIAL, *SCHOLARLY, *OTHERS]
    assert [r.rank for r in ordered] == list(range(1, len(hosts) + 1))
    assert official_first(ordered) == ordered
    assert [r.rank for r in results] == list(range(1, len(hosts) + 1))


def test_every_government_domain_of_the_list_is_official() -> None:
    folder = data_dir("dotgov_domains.csv")
    with folder.open(encoding="utf-8") as lines:
        names = [row[0].strip().lower() for row in csv.reader(lines)][1:]
    assert len(names) > 10_000
    assert [name for name in names if not is_government(f"www.{name}")] == []


def test_official_capitols_are_official() -> None:
    folder = data_dir("people")
    with (folder / "legislators.csv").open(encoding="utf-8") as lines:
        hosts = {row["email"].rpartition("@")[2].lower() for row in csv.DictReader(lines)}
    hosts.discard("")
    found = [host for host in hosts if host_class(f"https://{host}") == 0]
    assert len(found) / len(hosts) > 0.8, sorted(hosts - set(found))


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (SearchQuery("rent cap"), "reference"),
        (SearchQuery("rent cap", recency="1m"), "reference"),
        (SearchQuery("rent cap", recency="1w"), "news"),
        (SearchQuery("rent cap", recency="1d"), "news"),
        (SearchQuery("latest on the rent cap"), "news"),
        (SearchQuery("Newsom rent cap"), "reference"),
        (SearchQuery("rent cap", domains=("leg.ca.gov",)), "official"),
        (SearchQuery("rent cap", domains=("leg.ca.gov", "a.com")), "reference"),
        (SearchQuery("rent cap news", domains=("leg.ca.gov",)), "news"),
    ],
    ids=str,
)
def test_the_class_of_a_query(query: SearchQuery, name: str) -> None:
    assert class_of(query) == name


KEYS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(KEYS)
def test_windows_of_a_class_with_jitter(key: str) -> None:
    factor = jitter(key)
    assert 1 - JITTER <= factor <= 1 + JITTER
    for name, normal in WINDOWS.items():
        windows = windows_of(name, key, None, found=True)
        assert windows.fresh_s == pytest.approx(normal.fresh_s * factor)
        assert windows.stale_s == pytest.approx(normal.stale_s * factor)
        assert windows.error_s == pytest.approx(normal.error_s * factor)
        half = windows_of(name, key, normal.fresh_s / 2, found=True)
        assert half.stale_s == pytest.approx(windows.stale_s / 2)
        empty = windows_of(name, key, None, found=False)
        assert (empty.stale_s, empty.error_s) == (0, 0)
        assert empty.fresh_s == pytest.approx(EMPTY_S * factor)
        assert windows_of(name, key, 0, found=True).fresh_s == 0


def test_jitter_spreads() -> None:
    import hashlib

    factors = sorted(jitter(hashlib.sha256(str(n).encode()).hexdigest()) for n in range(1_000))
    quarters = [factors[n] for n in (0, 250, 500, 750, 999)]
    assert quarters == pytest.approx([0.9, 0.95, 1.0, 1.05, 1.1], abs=0.01)


@given(st.dictionaries(st.text(), JSON))
def test_read_only_json_is_the_same_json(value: dict[str, Any]) -> None:
    frozen = read_only(value)
    assert frozen == value
    assert json.loads(json.dumps(frozen)) == value
    for again in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert again == value
        again["more"] = 1
    assert frozen == value


CHANGES: list[Any] = [
    lambda d: d.__setitem__("a", 1),
    lambda d: d.__delitem__("a"),
    lambda d: d.update(a=1),
    lambda d: d.setdefault("z", 1),
    lambda d: d.pop("a"),
    lambda d: d.popitem(),
    lambda d: d.clear(),
    lambda d: d.__ior__({"z": 1}),
    lambda d: d["a"].append(1),
    lambda d: d["a"].extend([1]),
    lambda d: d["a"].__iadd__([1]),
    lambda d: d["a"].__setitem__(0, 1),
    lambda d: d["a"].sort(),
    lambda d: d["a"][1].update(c=1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_shared_refuses_every_change(change: Any) -> None:
    result = SearchResult(title="t", url="https://a.example", raw={"a": [1, {"b": 2}]})
    with pytest.raises(TypeError, match=r"copy\.deepcopy"):
        change(result.raw)
    assert result.raw == {"a": [1, {"b": 2}]}
    assert result.model_dump()["raw"] == result.raw
    assert result.model_copy(deep=True) == result


TEXT = st.text(max_size=20)
RESULT = st.builds(
    SearchResult,
    title=TEXT,
    url=TEXT,
    snippet=TEXT,
    content=st.none() | TEXT,
    published_date=st.none() | TEXT,
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    engine=TEXT,
    rank=st.integers(0, 50),
    raw=st.dictionaries(TEXT, st.none() | st.integers() | TEXT | st.lists(TEXT, max_size=2)),
)


@given(st.lists(RESULT, max_size=3))
def test_what_was_written_is_restored(results: list[SearchResult]) -> None:
    again = restored([result.model_dump(mode="json") for result in results])
    validated = tuple(map(SearchResult.model_validate, (r.model_dump() for r in results)))
    assert again == tuple(results) == validated
    for one, other in zip(again, validated, strict=True):
        assert type(one.raw) is type(other.raw)
        assert type(one.score) is type(other.score)
        assert one.model_dump() == other.model_dump()
        assert one.model_fields_set == set(SearchResult.model_fields)
        assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one.model_copy() == one


def test_a_score_that_lost_its_point_is_a_float_again() -> None:
    entry = {**SearchResult(title="t", url="u").model_dump(), "score": 1}
    assert isinstance(restored([entry])[0].score, float)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_restored_refuses_every_change(change: Any) -> None:
    written = SearchResult(title="t", url="u", raw={"a": [1, {"b": 2}]}).model_dump(mode="json")
    (result,) = restored([written])
    with pytest.raises(TypeError, match=r"copy\.deepcopy"):
        change(result.raw)
    with pytest.raises(ValidationError, match="frozen"):
        result.title = "other"


def test_what_another_version_wrote_is_checked() -> None:
    assert restored([{"title": "t", "url": "u"}]) == (SearchResult(title="t", url="u"),)
    with pytest.raises(ValidationError, match="url"):
        restored([{"title": "t"}])
