"""Bills to compare with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.admin.bills import Bills, serving


@pytest.fixture
async def bills(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bills]:
    """Every provider's bill, on loopback, with the environment pointing there."""
    async with serving() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running
