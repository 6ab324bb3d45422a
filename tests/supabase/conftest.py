"""Both clients of the supabase package, in front of the database that these tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from supabase import acreate_client, create_client

from tests.postgrest import SupabaseLite


@pytest.fixture(params=["sync", "async"])
async def supabase(
    request: pytest.FixtureRequest, supabase_lite: SupabaseLite
) -> AsyncIterator[Any]:
    """What a host has at hand: a client with the service key."""
    url, key = supabase_lite.url, supabase_lite.secret_key
    if request.param == "sync":
        client = create_client(url, key)
        yield client
        client.postgrest.session.close()
    else:
        asynchronous = await acreate_client(url, key)
        yield asynchronous
        await asynchronous.postgrest.session.aclose()


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> str:
    """A project of the test's own."""
    name = f"supabase-{uuid4()}"
    monkeypatch.setenv("LLM_COMMON_PROJECT", name)
    return name
