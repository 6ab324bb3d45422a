"""From what a host passes to a connector."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Any, cast

from .. import settings
from ..errors import ConfigurationError
from .base import Database
from .embedded import EmbeddedDatabase, embedded_url
from .postgres import PostgresDatabase
from .supabase import SupabaseDatabase

EMBEDDED = "embedded"

NOTHING_SET = (
    "no database: pass db=… (a Postgres URL, a Supabase client, or 'embedded'), or set "
    "DATABASE_URL, or SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY"
)


def connect(db: Any = None, *, db_client: Any = None, supabase_client: Any = None) -> Database:
    """Return the database that a host means.

    `db`, `db_client` and `supabase_client` are one argument under three names. It takes a
    Supabase client (sync or async), a Postgres URL, a `Database`, or the word ``embedded``;
    None means `DATABASE_URL`, then `SUPABASE_URL` with a service key. No connection is opened.

    Raises:
        ConfigurationError: nothing names a database, or several arguments do.
    """
    given = one_of(db, db_client, supabase_client)
    schema = settings.setting("schema").value
    if is_supabase(given):
        return SupabaseDatabase(given, schema)
    if isinstance(given, str) or given is None:
        return _from_settings(given, schema)
    if callable(getattr(given, "call", None)) and callable(getattr(given, "aclose", None)):
        return cast("Database", given)
    raise ConfigurationError(
        f"db= takes a Postgres URL, a Supabase client, a Database or 'embedded', "
        f"not {type(given).__name__}"
    )


async def direct_url(db: Any = None) -> str:
    """Return a Postgres URL, for what the Supabase client can't do.

    Raises:
        ConfigurationError: no URL is given or set.
    """
    if db is None or isinstance(db, str):
        url = settings.setting("database_url", db or None).value
        if url == EMBEDDED:
            return await embedded_url()
        if url:
            return url
    raise ConfigurationError(
        "this needs a direct Postgres connection: pass its URL or set DATABASE_URL"
    )


def one_of(*given: Any) -> Any:
    """Return the only argument that is not None.

    Raises:
        ConfigurationError: there are two.
    """
    named = [value for value in given if value is not None]
    if len(named) > 1:
        raise ConfigurationError(
            "db=, db_client= and supabase_client= are one argument: pass one of them"
        )
    return named[0] if named else None


def is_supabase(value: Any) -> bool:
    """Tell whether this is a Supabase client, without importing supabase."""
    module = sys.modules.get("supabase")
    return module is not None and isinstance(value, module.Client | module.AsyncClient)


def _from_settings(given: str | None, schema: str | None) -> Database:
    url = settings.setting("database_url", given or None).value
    if url == EMBEDDED:
        return EmbeddedDatabase(schema or "public")
    if url:
        return PostgresDatabase(url, schema or "public")
    api, key = settings.setting("supabase_url").value, settings.supabase_service_key()
    if not (api and key):
        raise ConfigurationError(NOTHING_SET)
    return SupabaseDatabase(shared_client(api, key, os.getpid()), schema)


@lru_cache(maxsize=4)
def shared_client(url: str, key: str, _process: int) -> Any:
    """Return this process's own Supabase client: hosts build ours anew for every request.

    It is the sync one: an async client would belong to the first event loop that used it.
    """
    from supabase import create_client

    return create_client(url, key)
