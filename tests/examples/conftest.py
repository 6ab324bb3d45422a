"""A provider server, databases and operators for the example hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from llm_common.database.migrations import up
from llm_common.testing import ProviderServer
from tests import postgrest, servers
from tests.examples import bills
from tests.postgrest import SupabaseLite
from tests.servers import Server

LATENCY_S = 0.05


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    """Every provider and engine, on loopback; searches find bills."""
    async with ProviderServer(bills.corpus(), latency_s=LATENCY_S) as running:
        yield running


@pytest.fixture
def environment(provider: ProviderServer, state_dir: Path) -> Mapping[str, str]:
    """What a host's processes get, but for the database."""
    return {
        **provider.environment(),
        "LLM_COMMON_STATE_DIR": str(state_dir),
        # Three polls later the state is old: a process may stall, as while litellm is imported.
        "LLM_COMMON_ROLLOUT_POLL_S": "2",
        # A story takes a minute and as many analyses as a year.
        "DAILY_BUDGET_USD": "10000",
        "MONTHLY_BUDGET_USD": "10000",
    }


@pytest.fixture
def bills_url(database_url: str) -> str:
    """A migrated database with the bills in it."""
    bills.seed(database_url)
    return database_url


@pytest.fixture
def supabase_with_bills(server: Server) -> Iterator[SupabaseLite]:
    """Supabase's API in front of a migrated database with the bills in it."""
    with server.database() as url:
        servers.execute(url, postgrest.DEFAULT_PRIVILEGES)
        asyncio.run(up(url))
        bills.seed(url)
        with postgrest.serve(url) as api:
            yield api
