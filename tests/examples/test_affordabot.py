"""affordabot's whole move, under load: not one request fails."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from llm_common.testing import ProviderServer
from tests.cli.command import Command
from tests.examples import bills
from tests.examples.deployment import EXAMPLES, deployed
from tests.examples.load import Load
from tests.examples.story import Story
from tests.servers import fetch

pytestmark = pytest.mark.examples

MODELS = frozenset({"openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-3.5-sonnet"})
SHORT = 12
"""So many of the bills have fewer than 14,000 characters."""

RUNS_BY_ARM = """
    SELECT CASE WHEN research_model IS NULL THEN 'old' ELSE 'new' END AS pipeline, count(*) > 0,
           count(*) FILTER (WHERE status = 'completed') > 0
    FROM pipeline_runs GROUP BY pipeline ORDER BY pipeline DESC
"""
"""The plan's comparison of the two pipelines."""


def story(host, load, provider, operator) -> Story:
    return Story(
        name="affordabot",
        flag="bill-analysis",
        models=MODELS,
        old=bills.OLD,
        new=bills.NEW,
        host=host,
        load=load,
        provider=provider,
        operator=operator,
    )


async def test_the_whole_move(
    provider: ProviderServer, environment: Mapping[str, str], bills_url: str, tmp_path: Path
) -> None:
    ids = bills.versions(bills.documents()[:SHORT], range(1, bills.VERSIONS + 1))
    operator = Command({"DATABASE_URL": bills_url, "LLM_COMMON_PROJECT": "affordabot"})
    variables = {**environment, "DATABASE_URL": bills_url}
    async with deployed(EXAMPLES / "affordabot", variables) as host:
        load = Load(host, bills.analyses(itertools.cycle(ids)))
        async with load.running(at_once=4):
            await story(host, load, provider, operator).tell(tmp_path)
    load.check()
    assert fetch(bills_url, RUNS_BY_ARM) == [("old", True, True), ("new", True, True)]
