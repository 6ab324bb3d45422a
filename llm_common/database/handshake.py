"""Does this library work with the schema that it finds?"""

from __future__ import annotations

from ..errors import SchemaError
from .base import Database

SCHEMA = 5
"""The contract that this library was written for; it also works with the one before."""

FUNCTION = "llm_schema"

_found: dict[str, int] = {}


async def handshake(db: Database) -> None:
    """Check the schema's version, once per process and database. Connectors do it by themselves.

    Raises:
        SchemaError: the database is not migrated, or for another version of the library.
        DatabaseUnavailableError: no connection, or no answer in time.
    """
    await schema_of(db)


async def schema_of(db: Database) -> int:
    """Return the schema's version, asked for once per process and database; see `handshake`."""
    if db.identity not in _found:
        version = int((await db.call(FUNCTION, {}))["version"])
        judge(version)
        _found[db.identity] = version
    return _found[db.identity]


def judge(found: int, known: int = SCHEMA) -> None:
    """Accept the schema `known` and the one before it.

    Raises:
        SchemaError: saying which of the two sides to update.
    """
    if found > known:
        raise SchemaError(
            f"the database has schema {found}, this library knows {known}: update llm-common"
        )
    if found < known - 1:
        raise SchemaError(
            f"the database has schema {found}, this library needs {known}: "
            "run `llm-common migrate up`"
        )
