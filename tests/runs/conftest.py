"""A host's steps, and what the database kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row


@dataclass
class Calls:
    """An async function that remembers its calls, and answers or fails as it is told."""

    answer: Any = "done"
    inputs: list[dict[str, Any]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    async def __call__(self, **inputs: Any) -> Any:
        self.inputs.append(inputs)
        if self.errors:
            raise self.errors.pop(0)
        return self.answer

    def __len__(self) -> int:
        return len(self.inputs)


Table = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def table(database_url: str) -> Table:
    """Read a table's rows as a host does."""

    def read(name: str) -> list[dict[str, Any]]:
        order = {"pipeline_runs": "started_at", "pipeline_steps": "started_at"}.get(name, "1")
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            return connection.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()  # type: ignore[arg-type]

    return read
