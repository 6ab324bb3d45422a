"""What a browser can do over the API, signed in or not: nothing, unless a host grants it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from llm_common.database.migrations import up
from tests import postgrest
from tests.postgrest import SupabaseLite
from tests.servers import Server, execute, fetch

TABLES = """
    SELECT c.relname, (
        SELECT attname FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND attidentity = '' AND attgenerated = ''
        ORDER BY attnum LIMIT 1)
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
    ORDER BY 1
"""
"""Each table, with a column that a statement may name."""
FUNCTIONS = """
    SELECT proname, coalesce(proargnames[:pronargs], '{}') FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'test%'
    AND prorettype <> 'trigger'::regtype ORDER BY 1
"""
USERS = "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY)"
"""Where Supabase keeps who may sign in."""
RIGHTS = "SELECT oid, relacl FROM pg_class WHERE relnamespace = 'public'::regnamespace"
KEEP_RIGHTS = f"CREATE SCHEMA kept; CREATE TABLE kept.rights AS {RIGHTS}"
RESTORE_RIGHTS = "UPDATE pg_class c SET relacl = k.relacl FROM kept.rights k WHERE k.oid = c.oid"
ROWS = """
    INSERT INTO cost_tracking (model, cost_usd, project) VALUES ('m', 1, 'p');
    INSERT INTO web_search_cache (cache_key, query, results) VALUES ('k', 'q', '[]');
    INSERT INTO pipeline_runs (bill_id, generate_model, review_model, status)
        VALUES ('AB-1', 'm', 'm', 'completed');
    INSERT INTO conversations (user_id, role, content) VALUES (gen_random_uuid(), 'user', 'mine');
"""
GRANTED = """
    GRANT SELECT, INSERT ON conversations TO authenticated;
    GRANT EXECUTE ON FUNCTION llm_save_messages, llm_conversation, llm_conversation_user
        TO authenticated
"""


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[SupabaseLite]:
    """The API in front of a database of this file's own, as `migrate up` leaves it."""
    with server.database() as url:
        execute(url, postgrest.DEFAULT_PRIVILEGES)
        asyncio.run(up(url))
        execute(url, f"{USERS}; {KEEP_RIGHTS}; {ROWS}")
        with postgrest.serve(url) as running:
            # With its first request it grants every table to everybody, which Supabase does not.
            headers = {"apikey": running.publishable_key}
            httpx.get(f"{running.url}/rest/v1/conversations", headers=headers, timeout=60)
            execute(url, RESTORE_RIGHTS)
            yield running


def token(api: SupabaseLite, user: str, *, secret: str | None = None, lasts_s: int = 3600) -> str:
    """Sign a user in, as Supabase's Auth does."""

    def encoded(part: bytes) -> bytes:
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    execute(api.database_url, f"INSERT INTO auth.users VALUES ('{user}') ON CONFLICT DO NOTHING")
    claims = {"sub": user, "role": "authenticated", "aud": "authenticated"}
    body = b".".join(
        encoded(json.dumps(part).encode())
        for part in ({"alg": "HS256", "typ": "JWT"}, {**claims, "exp": int(time.time()) + lasts_s})
    )
    key = (secret or api.jwt_secret).encode()
    return (body + b"." + encoded(hmac.digest(key, body, hashlib.sha256))).decode()


def client_of(api: SupabaseLite, bearer: str | None = None) -> httpx.AsyncClient:
    """Make a browser's client: the publishable key, and a user's token once signed in."""
    headers = {"apikey": api.publishable_key}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    return httpx.AsyncClient(base_url=f"{api.url}/rest/v1/", headers=headers, timeout=60)


@pytest.fixture(params=["anonymous", "signed_in"])
async def browser(
    request: pytest.FixtureRequest, api: SupabaseLite
) -> AsyncIterator[httpx.AsyncClient]:
    bearer = None if request.param == "anonymous" else token(api, str(uuid4()))
    async with client_of(api, bearer) as client:
        yield client


async def denied(kind: str, name: str, asking: Any) -> str | None:
    """Return what went wrong with the refusal of a request, or None."""
    answer = await asking
    body = answer.json() if answer.content else {}
    if answer.status_code in (401, 403) and (
        body.get("code") == "42501" and f"permission denied for {kind} {name}" in body["message"]
    ):
        return None
    return f"{answer.request.method} {name}: {answer.status_code} {answer.text[:200]}"


async def all_denied(asked: list[Any]) -> list[str]:
    found = [await denied(*one) for one in asked]
    return [problem for problem in found if problem]


def on_every_table(browser: httpx.AsyncClient, api: SupabaseLite) -> list[Any]:
    """Read, insert, upsert, change and delete, for every table."""
    asked = []
    upsert = {"Prefer": "resolution=merge-duplicates"}
    for name, column in fetch(api.database_url, TABLES):
        every = {column: "not.is.null"}
        requests = (
            browser.get(name, params={"limit": "1"}),
            browser.post(name, json={column: None}),
            browser.post(name, json=[{column: None}], headers=upsert),
            browser.patch(name, params=every, json={column: None}),
            browser.delete(name, params=every),
        )
        asked += [("table", name, request) for request in requests]
    assert len(asked) > 100
    return asked


async def test_no_table_can_be_read_or_written(
    browser: httpx.AsyncClient, api: SupabaseLite
) -> None:
    assert await all_denied(on_every_table(browser, api)) == []


def content(url: str) -> dict[str, list[tuple]]:
    """Return every row of every table."""
    names = [name for name, _ in fetch(url, TABLES)]
    return {name: fetch(url, f"SELECT t::text FROM {name} t ORDER BY 1") for name in names}


async def test_a_host_that_grants_every_table_again_still_shows_no_row(
    browser: httpx.AsyncClient, api: SupabaseLite
) -> None:
    url = api.database_url
    before = content(url)
    execute(url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO anon, authenticated")
    try:
        answers = [await asking for _, _, asking in on_every_table(browser, api)]
    finally:
        execute(url, RESTORE_RIGHTS)
    shown = [a.request.url.path for a in answers if a.request.method == "GET" and a.json()]
    written = [a for a in answers if a.request.method == "POST"]
    assert shown == []
    assert {a.json()["code"] for a in written} == {"42501"}
    assert content(url) == before


async def test_no_function_can_be_called(browser: httpx.AsyncClient, api: SupabaseLite) -> None:
    asked = [
        ("function", name, browser.post(f"rpc/{name}", json=dict.fromkeys(arguments)))
        for name, arguments in fetch(api.database_url, FUNCTIONS)
    ]
    assert len(asked) > 50
    assert await all_denied(asked) == []


async def test_the_same_requests_reach_the_tables_with_a_secret_key(
    api: SupabaseLite,
) -> None:
    headers = {"apikey": api.secret_key}
    async with httpx.AsyncClient(
        base_url=f"{api.url}/rest/v1/", headers=headers, timeout=60
    ) as backend:
        for name, _ in fetch(api.database_url, TABLES):
            assert (await backend.get(name, params={"limit": "1"})).status_code == 200


class TestGranted:
    """A host lets users reach their own conversations; they reach nobody else's."""

    @pytest.fixture(autouse=True)
    def _granted(self, api: SupabaseLite) -> Iterator[None]:
        execute(api.database_url, GRANTED)
        yield
        execute(api.database_url, GRANTED.replace("GRANT ", "REVOKE ").replace(" TO ", " FROM "))

    @pytest.fixture
    async def users(self, api: SupabaseLite) -> AsyncIterator[list[tuple[str, httpx.AsyncClient]]]:
        ids = [str(uuid4()), str(uuid4())]
        async with (
            client_of(api, token(api, ids[0])) as one,
            client_of(api, token(api, ids[1])) as other,
        ):
            yield list(zip(ids, (one, other), strict=True))

    @staticmethod
    async def says(client: httpx.AsyncClient, text: str, **more: str) -> httpx.Response:
        message = {"message_id": str(uuid4()), "role": "user", "content": text}
        payload = {"project": "chat", "messages": [message], **more}
        return await client.post("rpc/llm_save_messages", json={"payload": payload})

    @staticmethod
    async def hears(client: httpx.AsyncClient, **more: str) -> list[str]:
        payload = {"project": "chat", "limit": 9, **more}
        answer = await client.post("rpc/llm_conversation", json={"payload": payload})
        assert answer.status_code == 200, answer.text
        return [message["content"] for message in answer.json()["messages"]]

    async def test_each_reads_and_writes_their_own(self, users: Any) -> None:
        (_, alice), (_, bob) = users
        assert (await self.says(alice, "mine")).status_code == 200
        assert await self.hears(alice) == ["mine"]
        assert await self.hears(bob) == []
        assert [row["content"] for row in (await alice.get("conversations")).json()] == ["mine"]
        assert (await bob.get("conversations")).json() == []

    async def test_naming_somebody_else_changes_nothing(
        self, users: Any, api: SupabaseLite
    ) -> None:
        (alices, alice), (bobs, bob) = users
        await self.says(bob, "bob's")
        assert (await self.says(alice, "as bob", user_id=bobs)).status_code == 200
        assert await self.hears(bob) == ["bob's"]
        assert await self.hears(alice, user_id=bobs) == ["as bob"]
        stored = f"SELECT user_id::text FROM conversations WHERE user_id IN ('{alices}', '{bobs}')"
        rows = fetch(api.database_url, f"{stored} ORDER BY content")
        assert rows == [(alices,), (bobs,)]

    async def test_rows_of_others_are_neither_written_nor_changed(self, users: Any) -> None:
        (alices, alice), (bobs, bob) = users
        await self.says(bob, "bob's")
        row = {"project": "chat", "role": "user", "content": "forged"}
        forged = await alice.post("conversations", json={**row, "user_id": bobs})
        assert (forged.status_code, forged.json()["code"]) == (403, "42501")
        of_bob = {"user_id": f"eq.{bobs}"}
        refusals = [
            ("table", "conversations", alice.patch("conversations", params=of_bob, json=row)),
            ("table", "conversations", alice.delete("conversations", params=of_bob)),
        ]
        assert await all_denied(refusals) == []
        assert (await alice.get("conversations", params=of_bob)).json() == []
        assert await self.hears(bob) == ["bob's"]
        # Their own row by the table goes in, and is counted on like any other.
        own = await alice.post("conversations", json={**row, "user_id": alices})
        assert own.status_code == 201, own.text
        assert await self.hears(alice) == ["forged"]

    async def test_the_anonymous_and_the_badly_signed_get_nothing(
        self, users: Any, api: SupabaseLite
    ) -> None:
        (alices, _), _ = users
        for bearer in (
            None,
            token(api, alices, secret="guessed"),
            token(api, alices, lasts_s=-60),
        ):
            async with client_of(api, bearer) as client:
                assert (await self.says(client, "x", user_id=alices)).status_code in (401, 403)
                assert (await client.get("conversations")).status_code in (401, 403)

    async def test_everything_else_stays_closed(self, users: Any, api: SupabaseLite) -> None:
        (_, alice), _ = users
        url, own = api.database_url, ("llm_save_messages", "llm_conversation")
        names = [name for name, _ in fetch(url, TABLES) if name != "conversations"]
        asked = [("table", name, alice.get(name)) for name in names] + [
            ("function", name, alice.post(f"rpc/{name}", json=dict.fromkeys(arguments)))
            for name, arguments in fetch(url, FUNCTIONS)
            if not name.startswith(own)
        ]
        assert await all_denied(asked) == []
