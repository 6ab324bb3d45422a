"""affordabot's whole move, under load: not one request fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from llm_common.testing import ProviderServer
from tests.cli.command import Command
from tests.examples import bills
from tests.examples.deployment import EXAMPLES, Deployment, deployed
from tests.examples.load import Load, Request
from tests.examples.story import Story
from tests.postgrest import SupabaseLite
from tests.servers import fetch
from tests.support import plans_comparison

pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]

MODELS = frozenset({"openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-3.5-sonnet"})
SHORT = 12
"""So many of the bills have fewer than 14,000 characters."""


def story(
    host: Deployment, load: Load, provider: ProviderServer, database: Mapping[str, str]
) -> Story:
    operator = Command({**database, "LLM_COMMON_PROJECT": "affordabot"})
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


def requests() -> Iterator[Request]:
    ids = bills.versions(bills.documents()[:SHORT], range(1, bills.VERSIONS + 1))
    return bills.analyses(itertools.cycle(ids))


async def test_the_whole_move(
    provider: ProviderServer, environment: Mapping[str, str], bills_url: str, tmp_path: Path
) -> None:
    database = {"DATABASE_URL": bills_url}
    async with deployed(EXAMPLES / "affordabot", {**environment, **database}) as host:
        load = Load(host, requests())
        async with load.running(at_once=3):
            await story(host, load, provider, database).tell(tmp_path)
    load.check()
    runs = {pipeline: number for pipeline, number, _ in fetch(bills_url, plans_comparison())}
    assert runs["old"] > 20
    assert runs["new"] > 20


async def test_there_and_back_over_supabase(
    provider: ProviderServer,
    environment: Mapping[str, str],
    supabase_with_bills: SupabaseLite,
) -> None:
    database = {
        "SUPABASE_URL": supabase_with_bills.url,
        "SUPABASE_SERVICE_ROLE_KEY": supabase_with_bills.secret_key,
    }
    async with deployed(EXAMPLES / "affordabot", {**environment, **database}) as host:
        load = Load(host, requests())
        async with load.running(at_once=3):
            await story(host, load, provider, database).tell_briefly()
    load.check()
