"""A provider server with prices of its own, so that sums can be done by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from llm_common.testing import CorpusDocument, ProviderServer, ServerPrice

PRICES = {
    "openai/gpt-4o": ServerPrice(
        Decimal("0.0000025"), Decimal("0.00001"), cached_input=Decimal("0.00000125")
    ),
    "claude-x": ServerPrice(
        Decimal("0.000003"),
        Decimal("0.000015"),
        cached_input=Decimal("0.0000003"),
        cache_write=Decimal("0.00000375"),
    ),
    "gem": ServerPrice(Decimal("0.0000003"), Decimal("0.0000025")),
    "openrouter/some/model": ServerPrice(Decimal("0.000001"), Decimal("0.000002")),
    "text-embedding-3-small": ServerPrice(Decimal("0.00000002")),
    "offline/extractive": ServerPrice(),
    "zai/web_search": ServerPrice(request=Decimal("0.01")),
    "serper/search": ServerPrice(request=Decimal("0.001")),
}

CORPUS = [
    CorpusDocument(
        "Rent relief in Ohio",
        "https://www.ohio.gov/rent-relief",
        "# Rent relief\n\nThe rent relief programme pays up to 900 dollars a month to tenants in "
        "Ohio. Landlords apply on behalf of their tenants before the first of March.",
        published="2024-02-01",
    ),
    CorpusDocument(
        "Bridges of Vermont",
        "https://bridges.example.org/vermont",
        "Vermont keeps one hundred covered bridges, and repairs four of them every year.",
    ),
]


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer(CORPUS, prices=PRICES) as running:
        yield running
