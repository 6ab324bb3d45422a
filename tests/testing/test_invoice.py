"""The server's own arithmetic, by examples done by hand."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.testing import Invoice, InvoiceLine, ServerPrice
from llm_common.types import Usage

MILLIONTH = Decimal("0.000001")
DEAR = ServerPrice(2 * MILLIONTH, 4 * MILLIONTH)
PRICE = ServerPrice(
    input=MILLIONTH,
    output=2 * MILLIONTH,
    cached_input=MILLIONTH / 10,
    cache_write=MILLIONTH * 5 / 4,
    request=Decimal("0.01"),
    reasoning=3 * MILLIONTH,
    above=((200, DEAR),),
)

CHARGES = [
    (Usage(), "0.01"),
    (Usage(input_tokens=100), "0.0101"),
    (Usage(input_tokens=100, cached_input_tokens=100), "0.01001"),
    (Usage(input_tokens=100, cache_write_tokens=100), "0.010125"),
    (Usage(output_tokens=100), "0.0102"),
    (Usage(output_tokens=100, reasoning_tokens=100), "0.0103"),
    (Usage(input_tokens=200), "0.0102"),
    (Usage(input_tokens=201, output_tokens=1), "0.000406"),
]


@pytest.mark.parametrize(("usage", "usd"), CHARGES)
def test_a_charge_is_exact(usage, usd):
    assert PRICE.charge(usage) == Decimal(usd)


def test_what_has_no_rate_of_its_own_is_plain():
    usage = Usage(
        input_tokens=9,
        cached_input_tokens=3,
        cache_write_tokens=3,
        output_tokens=5,
        reasoning_tokens=5,
    )
    assert ServerPrice(MILLIONTH, MILLIONTH).charge(usage) == 14 * MILLIONTH


@settings(deadline=None)
@given(st.lists(st.none() | st.decimals(0, 1000, places=12), max_size=10))
def test_the_file_holds_what_the_invoice_says(tmp_path_factory, amounts):
    path = tmp_path_factory.mktemp("invoice") / "lines.jsonl"
    invoice = Invoice(path)
    for number, amount in enumerate(amounts):
        invoice.book(InvoiceLine(f"req-{number}", "openai", "m", Usage(input_tokens=1), amount))
        assert len(path.read_text().splitlines()) == number + 1  # before anything else happens
    read = [json.loads(line)["amount"] for line in path.read_text().splitlines()]
    assert sum(Decimal(a) for a in read if a is not None) == invoice.total_usd
    assert read.count(None) == invoice.unpriced
    invoice.close()
    assert len(invoice.lines) == len(amounts)
