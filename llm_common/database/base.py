"""The one seam to the database: SQL functions that take one JSON value and return one."""

from __future__ import annotations

from typing import Protocol

from ..types import JSON


class Database(Protocol):
    """A database whose SQL functions can be called.

    Two connectors implement it (psycopg and the Supabase client); both call the same functions
    of `migrations/`, so both give the same guarantees.
    """

    @property
    def identity(self) -> str:
        """Which database and schema this is, without a password: two connectors with the same
        identity see the same rows.
        """
        ...

    async def call(self, function: str, payload: JSON) -> JSON:
        """Call ``function(payload jsonb) returns jsonb`` and return its answer.

        Raises:
            DatabaseUnavailableError: no connection, or no answer within the deadline; the call
                may or may not have run, so repeat it with the same ids.
            SchemaError: the function is missing: the database is not migrated.
            DatabaseError: the function refused or failed.
        """
        ...

    async def aclose(self) -> None:
        """Release what this connector holds; a shared pool closes with its last user."""
        ...
