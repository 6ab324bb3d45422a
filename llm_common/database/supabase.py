"""The connector to a Supabase client, sync or async."""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import DatabaseError, DatabaseUnavailableError, SchemaError
from ..types import JSON
from .handshake import FUNCTION as HANDSHAKE
from .handshake import handshake
from .payload import plain
from .postgres import DEADLINE_S, MIGRATE, NOT_MIGRATED

if TYPE_CHECKING:
    from postgrest.exceptions import APIError

NO_FUNCTION = {"PGRST202", "PGRST106", *NOT_MIGRATED}
"""PostgREST found no such function, or does not expose the schema."""

_threads: weakref.WeakKeyDictionary[Any, ThreadPoolExecutor] = weakref.WeakKeyDictionary()


class SupabaseDatabase:
    """Calls SQL functions through ``client.rpc``.

    Args:
        client: a Supabase client with a service key.
        schema: where the functions live; by default the client's own schema.
        deadline_s: seconds that one call may take.
    """

    def __init__(
        self, client: Any, schema: str | None = None, *, deadline_s: float = DEADLINE_S
    ) -> None:
        from supabase import Client

        own = str(client.options.schema)
        self._client = client
        self._api: Any = client if schema in (None, own) else client.schema(schema)
        self._sync = isinstance(client, Client)
        self._deadline_s = deadline_s
        self._identity = f"supabase {urlsplit(str(client.supabase_url)).netloc} {schema or own}"

    def __repr__(self) -> str:
        return f"SupabaseDatabase({self._identity!r})"

    @property
    def identity(self) -> str:
        """Host and schema."""
        return self._identity

    async def call(self, function: str, payload: JSON) -> JSON:
        """Call a function; see `Database.call`."""
        import httpx
        from postgrest.exceptions import APIError

        if function != HANDSHAKE:
            await handshake(self)
        body = {"payload": plain(payload)}
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._call(function, body)
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"{self._identity} gave no answer to {function} within {self._deadline_s:g} s"
            ) from error
        except httpx.HTTPError as error:
            raise DatabaseUnavailableError(
                f"{self._identity} can't be reached for {function}: {type(error).__name__}"
            ) from None
        except RuntimeError as error:
            # So says httpx when the host has closed its client.
            if "closed" not in str(error):
                raise
            raise DatabaseUnavailableError(
                f"{self._identity} can't be reached for {function}: its client was closed"
            ) from None
        except APIError as error:
            # Its text may quote a payload: it stays out of the chain as well.
            raise translate(error, function, self._identity) from None

    async def _call(self, function: str, body: JSON) -> JSON:
        request = self._api.rpc(function, body)
        if self._sync:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(_thread(self._client), request.execute)
        else:
            answer = await request.execute()
        return answer.data

    async def aclose(self) -> None:
        """Do nothing: the client is the host's."""


def _thread(client: Any) -> ThreadPoolExecutor:
    """One thread per client: its calls take turns, and no other work waits behind them."""
    if client not in _threads:
        _threads[client] = ThreadPoolExecutor(1, thread_name_prefix="llm_common_supabase")
    return _threads[client]


def translate(error: APIError, function: str, where: str) -> DatabaseError:
    """Turn PostgREST's error into ours; its own text stays out."""
    code = str(error.code or "unknown")
    if code in NO_FUNCTION:
        return SchemaError(f"{where}: {function} failed with {code}; {MIGRATE}")
    if code.startswith(("PGRST00", "08", "57P", "53300")) or code in {"502", "503", "504"}:
        return DatabaseUnavailableError(f"{where} can't be reached for {function}: {code}")
    return DatabaseError(f"{where}: {function} failed with {code}")
