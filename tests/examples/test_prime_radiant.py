"""prime_radiant's whole move, with streams, under load: not one request fails, no turn is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from llm_common.testing import ProviderServer
from tests.cli.command import Command
from tests.examples import chats
from tests.examples.deployment import EXAMPLES, Deployment, deployed
from tests.examples.load import Load, Request
from tests.examples.story import Story
from tests.postgrest import SupabaseLite
from tests.servers import fetch

pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]

USERS = 201
"""An odd number, so that everyone has answers at once as well as streams."""


def story(
    host: Deployment, load: Load, provider: ProviderServer, database: Mapping[str, str]
) -> Story:
    operator = Command({**database, "LLM_COMMON_PROJECT": "prime-radiant-ai"})
    return Story(
        name="prime_radiant",
        flag="chat",
        models=frozenset({"openai/gpt-4o"}),
        old=chats.OLD,
        new=chats.NEW,
        host=host,
        load=load,
        provider=provider,
        operator=operator,
    )


def requests() -> Iterator[Request]:
    return chats.chats(itertools.cycle(chats.users(USERS)))


async def test_the_whole_move(
    provider: ProviderServer, environment: Mapping[str, str], database_url: str, tmp_path: Path
) -> None:
    database = {"DATABASE_URL": database_url}
    async with deployed(EXAMPLES / "prime_radiant", {**environment, **database}) as host:
        load = Load(host, requests())
        async with load.running(at_once=4):
            await story(host, load, provider, database).tell(tmp_path)
    load.check()
    assert {one.path for one in load.seen if one.by == chats.OLD} == {"/chat", "/chat/stream"}
    assert {one.path for one in load.seen if one.by == chats.NEW} == {"/chat", "/chat/stream"}
    # Whichever code has answered, and however often it changed: both sides of every turn are kept.
    kept = fetch(database_url, "SELECT role, count(*) FROM conversations GROUP BY 1 ORDER BY 1")
    assert kept == [("assistant", len(load.seen)), ("user", len(load.seen))]


async def test_there_and_back_over_supabase(
    provider: ProviderServer, environment: Mapping[str, str], supabase_lite: SupabaseLite
) -> None:
    database = {
        "SUPABASE_URL": supabase_lite.url,
        "SUPABASE_SERVICE_ROLE_KEY": supabase_lite.secret_key,
    }
    async with deployed(EXAMPLES / "prime_radiant", {**environment, **database}) as host:
        load = Load(host, requests())
        async with load.running(at_once=4):
            await story(host, load, provider, database).tell_briefly()
    load.check()


async def test_the_page_reaches_the_new_code_s_models(
    provider: ProviderServer, environment: Mapping[str, str], database_url: str, tmp_path: Path
) -> None:
    user = chats.users(1)
    variables = {**environment, "DATABASE_URL": database_url, "USE_NEW_LLM_FRAMEWORK": "true"}
    async with deployed(EXAMPLES / "prime_radiant", variables) as host:
        await Load(host, chats.chats(user * 2)).all(at_once=1)
        await host.deploy()
        await Load(host, chats.chats(user)).all(at_once=1)
    first, second, third = (request.body["messages"] for request in provider.requests)
    assert "holdings" in first[0]["content"]
    assert "portfolio" in first[1]["content"]
    assert "realised gains" in second[0]["content"]
    # What was said comes back, in the same process and in the next one.
    said = [message["content"] for message in third]
    assert [chats.QUESTIONS[0], chats.QUESTIONS[1]] == [
        text for text in said[:-1] if text in chats.QUESTIONS
    ]
