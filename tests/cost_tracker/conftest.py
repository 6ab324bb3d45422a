"""Databases for the money functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from llm_common.database.migrations import up
from tests.cost_tracker.money import Callers


@pytest.fixture(params=["embedded", "15"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database, on the newest and on the oldest server."""
    if request.param == "embedded":
        yield request.getfixturevalue("database_url")
        return
    with request.getfixturevalue("pg15").database() as url:
        asyncio.run(up(url))
        yield url


@pytest.fixture
async def call(url: str) -> AsyncIterator[Callers]:
    callers = Callers(url)
    yield callers
    await callers.close()
