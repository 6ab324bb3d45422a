"""Evidence becomes a cell, in whatever order it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.merging import merge
from llm_common.enrichment.models import Column, Evidence

PHONE = Column.parse("phone:phone")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE, TWO = "+19163192001", "+19163192002"


def said(
    value: Any, url: str = "https://a.example/", verdict: Any = "verified", **more: Any
) -> Evidence:
    return Evidence(value=value, url=url, verdict=verdict, quote=f"call {value}", **more)


def test_nothing() -> None:
    assert merge(PHONE, []).verdict == "missing"
    told = merge(PHONE, [Evidence(value=None, verdict="missing", reason="no phone there")])
    assert (told.value, told.reason, told.confidence) == (None, "no phone there", 0.0)


def test_independent_sources_make_surer() -> None:
    alone = merge(PHONE, [said(ONE)])
    same_site = merge(PHONE, [said(ONE), said(ONE, "https://www.a.example/b")])
    two = merge(PHONE, [said(ONE), said(ONE, "https://b.example/")])
    assert alone.confidence == same_site.confidence == 0.8
    assert two.confidence == 0.9
    assert merge(PHONE, [said(ONE, is_official=True)]).confidence == 0.9
    assert alone.is_settled


def test_equal_sources_that_disagree() -> None:
    cell = merge(PHONE, [said(TWO, "https://b.example/"), said(ONE)])
    assert (cell.verdict, cell.is_settled) == ("conflict", False)
    assert cell.value in (ONE, TWO)
    assert {cell.value, *(other.value for other in cell.conflicts)} == {ONE, TWO}
    assert cell.confidence < 0.5


def test_who_wins() -> None:
    official = said(ONE, is_official=True)
    others = [said(TWO, f"https://{host}.example/") for host in "bcd"]
    assert merge(PHONE, [*others, official]).value == ONE
    assert merge(PHONE, [*others, official]).verdict == "verified"
    newer = said(ONE, dated="2026-01-01")
    older = said(TWO, "https://b.example/", dated="2025-01-01")
    cell = merge(PHONE, [older, newer])
    assert (cell.value, cell.verdict, cell.conflicts) == (ONE, "verified", (older,))
    assert merge(PHONE, [said(ONE), *others]).value == TWO
    outdated = said(TWO, "https://b.example/", "outdated", is_official=True)
    assert merge(PHONE, [outdated, said(ONE, verdict="repaired")]).value == ONE
    unproven = said(TWO, "https://b.example/", "unverified")
    assert merge(PHONE, [unproven, outdated]).verdict == "outdated"
    cell = merge(PHONE, [unproven, said(ONE)])
    assert (cell.verdict, cell.conflicts) == ("verified", (unproven,))


def test_age_costs() -> None:
    cell = [
        merge(PHONE, [said(ONE, dated=day)], now=NOW).confidence
        for day in ("2026-01-01", "2023-01-01")
    ]
    assert cell == [0.8, 0.56]


EVIDENCE = st.lists(
    st.builds(
        said,
        st.sampled_from([ONE, TWO, "+19163192003"]),
        st.sampled_from([f"https://{host}.example/" for host in "abc"]),
        st.sampled_from(["verified", "repaired", "unverified", "outdated"]),
        dated=st.sampled_from([None, "2025-01-01", "2026-01-01", "2020"]),
        is_official=st.booleans(),
        reason=st.sampled_from([None, "x", "y"]),
    ),
    max_size=6,
)


@given(EVIDENCE, st.randoms())
def test_the_order_does_not_matter(evidence: list[Evidence], chance: Any) -> None:
    cell = merge(PHONE, evidence, now=NOW)
    shuffled = list(evidence)
    chance.shuffle(shuffled)
    assert merge(PHONE, shuffled, now=NOW) == cell
    assert 0 <= cell.confidence <= 1


@given(EVIDENCE)
def test_nothing_is_lost_and_nothing_made_up(evidence: list[Evidence]) -> None:
    cell = merge(PHONE, evidence)
    shown = {cell.value, *(other.value for other in cell.conflicts)} - {None}
    assert shown == {one.value for one in evidence}
    if cell.is_settled:
        assert any(one.value == cell.value and one.verdict == cell.verdict for one in evidence)


@given(EVIDENCE)
def test_another_source_never_makes_less_sure(evidence: list[Evidence]) -> None:
    cell = merge(PHONE, evidence)
    if cell.is_settled:
        more = merge(PHONE, [*evidence, said(cell.value, "https://fresh.example/")])
        assert more.value == cell.value
        assert more.confidence >= cell.confidence
