"""What fits into one call, and how its cost is divided."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from llm_common.enrichment.fitting import batches_by_tokens, fitted, page_rooms, shares, shown_text
from llm_common.enrichment.models import Column

PHONE = Column.parse("phone:phone")


@given(
    st.decimals(0, 10**6, places=12) | st.decimals(0, 1, places=20),
    st.lists(st.integers(0, 1000), min_size=1, max_size=30),
)
def test_shares_add_up(cost: Decimal, weights: list[int]) -> None:
    parts = shares(cost, weights)
    assert sum(part or Decimal(0) for part in parts) == cost
    assert len(parts) == len(weights)


def test_shares_of_nothing() -> None:
    assert shares(None, [1, 2]) == [None, None]
    assert shares(Decimal(1), []) == []
    assert shares(Decimal(1), [0, 0]) == [Decimal("0.5"), Decimal("0.5")]
    assert shares(Decimal(3), [1, 2]) == [Decimal(1), Decimal(2)]


@given(st.lists(st.integers(0, 50)), st.integers(1, 100), st.integers(1, 7))
def test_batches(sizes: list[int], most: int, rows: int) -> None:
    batches = batches_by_tokens(list(enumerate(sizes)), most, rows)
    tokens = batches_by_tokens([(size, size) for size in sizes], most, rows)
    assert [item for batch in batches for item in batch] == list(range(len(sizes))) or sizes
    assert [size for batch in tokens for size in batch] == sizes
    for batch in tokens:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or sum(batch) <= most


def test_a_long_page_keeps_what_tells() -> None:
    filler = [f"Line {n} says nothing at all that anybody would want to know." for n in range(400)]
    filler[300] = "John Smith"
    filler[301] = "Phone: 916-319-2002"
    text = fitted("\n".join(filler), 1000, ["John Smith"], [PHONE])
    assert len(text.encode()) <= 1000
    assert "John Smith\nPhone: 916-319-2002" in text
    assert text.startswith("Line 0 ")
    assert "[…]" in text
    assert fitted("short", 1000, [], []) == "short"


@given(st.text(max_size=300), st.integers(0, 200))
def test_a_fitted_text_fits(text: str, room: int) -> None:
    assert len(fitted(text, room, ["a b"], [PHONE]).encode()) <= room


@given(st.lists(st.integers(0, 100)), st.integers(0, 500))
def test_rooms(sizes: list[int], room: int) -> None:
    rooms = page_rooms(sizes, room)
    assert sum(rooms) <= room
    assert all(given <= size for given, size in zip(rooms, sizes, strict=True))


def test_facts_that_pruning_left_out_are_shown() -> None:
    page = {
        "text": "# John Smith\n\nA member.",
        "full_text": "Home\nJohn Smith\nA member.\nAt\n916-319-2002",
    }
    assert shown_text(page) == "# John Smith\n\nA member.\n\n[…]\nAt\n916-319-2002"
    assert shown_text({"text": "", "full_text": "x"}) == "x"
    assert (
        shown_text({"text": "Call 916-319-2002.", "full_text": "Call 916-319-2002."})
        == "Call 916-319-2002."
    )
