"""What several test folders need."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).parents[1]

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For every property, by way of conftest: how fast a busy machine is says nothing about them."""


def skip_or_fail(reason: str) -> NoReturn:
    """Skip, saying why; where CI is set, a test that can't run is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def data_dir(name: str) -> Path:
    """Return a folder of the shared test material, or skip."""
    folder = REPOSITORY.parent / "shared" / "data" / name
    if not folder.exists():
        skip_or_fail(f"the test material {name} is not beside this repository")
    return folder


def plan(name: str) -> str:
    """Return the text of a plan, or skip."""
    file = REPOSITORY.parent / "shared" / "plans" / name
    if not file.is_file():
        skip_or_fail(f"the plan {name} is not beside this repository")
    return file.read_text(encoding="utf-8")


def plans_comparison() -> str:
    """Return the plan's query that compares the two pipelines, to the letter, or skip."""
    blocks = re.findall(r"```sql\n(.*?)```", plan("llm-common-migration.md"), re.DOTALL)
    (query,) = (block for block in blocks if "as total_runs" in block)
    return query
