"""The truth table of the documentation, row by row; and a unit's arm under what is in force."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.rollout.environment import PERCENTAGE, USE, Environment, environment
from llm_common.rollout.evaluation import Force, choose, in_force
from llm_common.rollout.models import Segment, State
from tests.support import REPOSITORY

USES = {"not set": None, "true": "true", "false": "false", "unreadable": "perhaps"}
PERCENTAGES = {"not set": None, "25": "25", "unreadable": "a quarter"}
WHEN = datetime(2026, 11, 21, tzinfo=UTC)


def state(**changes: object) -> State:
    return State(**({"project": "test", "flag": "f", "stage_at": WHEN} | changes))


STORED = {
    "no database": None,
    "can't be read": None,
    "never set": state(),
    "off": state(mode="off"),
    "shadow": state(mode="shadow"),
    "10 %": state(mode="percent", share=1000),
    "on": state(mode="on", share=10_000),
    "rolled back": state(mode="off", latched="too many errors"),
}
SHOWN = {
    ("off", 0): "none", ("shadow", 0): "none", ("percent", 1000): "10 %",
    ("percent", 2500): "25 %", ("on", 10_000): "all",
}  # fmt: skip


class Row(NamedTuple):
    use: str
    percentage: str
    stored: str
    shown: str
    reason: str

    def fits(self, case: tuple[str, str, str]) -> bool:
        return all(mine in {"any", theirs} for mine, theirs in zip(self, case, strict=False))


def table() -> list[Row]:
    text = (REPOSITORY / "docs" / "rollout.md").read_text(encoding="utf-8")
    lines = text.partition("<!-- truth table -->")[2].strip().splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(Row(*(cell.strip().strip("`") for cell in line.strip("|").split("|"))))
    return rows


ROWS = table()
CASES = list(product(USES, PERCENTAGES, STORED))


@pytest.mark.parametrize("case", CASES, ids=" / ".join)
def test_the_truth_table(case):
    use, percentage, stored = case
    row = next(row for row in ROWS if row.fits(case))
    given_ = {USE: USES[use] or "", PERCENTAGE: PERCENTAGES[percentage] or ""}
    has_database = stored != "no database"
    force = in_force(STORED[stored], environment(given_), has_database=has_database)
    assert (SHOWN[force.mode, force.share], force.reason) == (row.shown, row.reason)


@pytest.mark.parametrize("row", ROWS, ids=" / ".join)
def test_every_row_of_the_table_is_the_first_of_some_case(row):
    assert any(next(r for r in ROWS if r.fits(case)) is row for case in CASES)


@pytest.mark.parametrize("word", ["FALSE", " 0 ", "no", "off"])
def test_false_is_written_in_several_ways(word):
    assert environment({USE: word}).use is False


@pytest.mark.parametrize("percent", ["101", "-1", "ten", "nan", "12.345"])
def test_a_bad_percentage_is_named(percent):
    assert PERCENTAGE in str(environment({PERCENTAGE: percent}).problem)


PERCENT = Force("percent", 3000, "hash")


@given(st.text(min_size=1), st.integers(0, 10_000), st.integers(0, 10_000))
def test_widening_never_moves_a_unit_out(unit, one, other):
    narrow, wide = sorted((one, other))
    stored = state(mode="percent")
    if choose("f", stored, Force("percent", narrow, "hash"), unit).arm == "new":
        assert choose("f", stored, Force("percent", wide, "hash"), unit).arm == "new"


def test_lists_come_before_the_hash_and_are_not_counted():
    stored = state(mode="percent", allow=["in"], deny=["out"])
    none, everyone = Force("percent", 0, "hash"), Force("on", 10_000, "on")
    allowed = choose("f", stored, none, "in")
    assert (allowed.arm, allowed.reason, allowed.counted) == ("new", "allowed", False)
    for force in (none, everyone):
        denied = choose("f", stored, force, "out")
        assert (denied.arm, denied.reason, denied.counted) == ("old", "denied", False)
    both = state(mode="percent", allow=["u"], deny=["u"])
    assert choose("f", both, everyone, "u").arm == "old"


def test_off_is_off_for_everyone():
    stored = state(mode="off", allow=["in"])
    assert choose("f", stored, Force("off", 0, "off"), "in").arm == "old"


def test_a_segment_has_a_share_of_its_own():
    stored = state(
        mode="percent",
        segments=(
            Segment(attribute="jurisdiction", values=("California", "Nevada"), share=10_000),
            Segment(attribute="jurisdiction", values=("Nevada",), share=0),
        ),
    )
    none = Force("percent", 0, "hash")
    for value, arm in {
        "California": "new",
        "Nevada": "new",
        "Oregon": "old",
        "None": "old",
    }.items():
        assert choose("f", stored, none, "u", {"jurisdiction": value}).arm == arm
    assert choose("f", stored, none, "u", {"other": "California"}).arm == "old"
    assert choose("f", stored, none, "u").arm == "old"
    chosen = choose("f", stored, none, "u", {"jurisdiction": "Nevada"})
    assert (chosen.reason, chosen.share, chosen.counted) == ("segment", 10_000, True)
    from_outside = in_force(stored, Environment(share=0))
    assert choose("f", stored, from_outside, "u", {"jurisdiction": "Nevada"}).arm == "old"


def test_the_shadow_samples_by_a_hash_of_its_own():
    stored = state(mode="shadow", shadow={"share": 3000, "daily_usd": "1"})
    force = in_force(stored, Environment())
    units = [f"unit-{i}" for i in range(4_000)]
    sampled = [u for u in units if choose("f", stored, force, u).is_shadowed]
    early = [u for u in units if choose("f", stored, PERCENT, u).arm == "new"]
    assert 1_000 < len(sampled) < 1_400
    assert 250 < len(set(sampled) & set(early)) < 470
    assert {choose("f", stored, force, u).arm for u in units} == {"old"}
