"""The command against a database of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Command


@pytest.fixture
def state(open_path: Path) -> Path:
    return open_path / "state"


@pytest.fixture
def cli(database_url: str, state: Path) -> Command:
    """The command with a migrated database, without any key."""
    return Command({"DATABASE_URL": database_url, "LLM_COMMON_STATE_DIR": str(state)})
