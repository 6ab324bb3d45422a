"""Pytest fixtures; a test suite takes them with `pytest_plugins = ["llm_common.testing.plugin"]`.

They need pytest and pytest-asyncio, which the host's test environment brings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ..limits import forget
from .server import ProviderServer


@pytest_asyncio.fixture
async def provider_server() -> AsyncIterator[ProviderServer]:
    """Run a `ProviderServer` for one test; its corpus is empty, so searches find nothing."""
    async with ProviderServer() as server:
        yield server
    # The next server may get this one's port, and is not to inherit its cooldowns.
    forget()


@pytest.fixture
def offline_environment(
    provider_server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Point every provider and engine at `provider_server`, by environment variables."""
    variables = provider_server.environment()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables
