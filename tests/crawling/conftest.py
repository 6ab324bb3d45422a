"""A fetcher that may ask loopback, and reads little."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_common.crawling.http_fetcher import HttpFetcher, Limits

from .web import LOOPBACK


@pytest.fixture
async def fetcher() -> AsyncIterator[HttpFetcher]:
    made = HttpFetcher(LOOPBACK, limits=Limits(timeout_s=60, most_bytes=100_000))
    yield made
    await made.aclose()
