"""Is everything there, unchanged, and closed?"""

from __future__ import annotations

from collections.abc import Sequence

from .files import Migration, read
from .runner import compare
from .session import Session, session

MISSING_TABLES = """
    SELECT name FROM llm_objects
    WHERE kind = 'table' AND to_regclass(quote_ident(name)) IS NULL ORDER BY name
"""
MISSING_COLUMNS = """
    SELECT name FROM llm_objects
    WHERE kind = 'column' AND NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(split_part(name, '.', 1)))
          AND attname = split_part(name, '.', 2) AND NOT attisdropped)
    ORDER BY name
"""
MISSING_INDEXES = """
    SELECT name FROM llm_objects
    WHERE kind = 'index' AND to_regclass(quote_ident(name)) IS NULL ORDER BY name
"""
WRONG_FUNCTIONS = """
    SELECT name || CASE WHEN found.n = 0 THEN ' is missing' ELSE ' is overloaded' END
    FROM llm_objects CROSS JOIN LATERAL (
        SELECT count(*) AS n FROM pg_proc
        WHERE proname = name
          AND pronamespace = quote_ident(current_schema())::regnamespace) AS found
    WHERE kind = 'function' AND found.n <> 1 ORDER BY name
"""
OPEN_TABLES = """
    SELECT name, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
    FROM llm_objects JOIN pg_class ON pg_class.oid = to_regclass(quote_ident(name))
    CROSS JOIN LATERAL aclexplode(relacl)
    WHERE kind = 'table'
      AND (grantee = 0 OR grantee::regrole::text IN ('anon', 'authenticated'))
    GROUP BY 1, 2 ORDER BY 1, 2
"""
OPEN_FUNCTIONS = """
    SELECT name, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
    FROM llm_objects JOIN pg_proc
      ON proname = name AND pronamespace = quote_ident(current_schema())::regnamespace
    CROSS JOIN LATERAL aclexplode(coalesce(proacl, acldefault('f', proowner)))
    WHERE kind = 'function'
      AND (grantee = 0 OR grantee::regrole::text IN ('anon', 'authenticated'))
    GROUP BY 1, 2 ORDER BY 1, 2
"""
WITHOUT_RLS = """
    SELECT name FROM llm_objects JOIN pg_class ON pg_class.oid = to_regclass(quote_ident(name))
    WHERE kind = 'table' AND NOT relrowsecurity ORDER BY name
"""


async def verify(
    db: str | None = None,
    schema: str = "public",
    *,
    migrations: Sequence[Migration] | None = None,
) -> list[str]:
    """Return what is wrong, one sentence each; empty when all is well.

    Checks that every migration is applied and unchanged, that every object is there, and that
    nothing is open to PUBLIC, anon or authenticated.

    Raises:
        ConfigurationError: there is no direct URL.
        DatabaseUnavailableError: no connection.
    """
    async with session(db, schema) as work:
        history = await work.history()
        states = compare(migrations or read(), history)
        problems = [
            f"migration {row.version}_{row.name} is {row.state}"
            for row in states
            if row.state != "applied"
        ]
        return problems + (await _objects(work) if history else [])


async def _objects(work: Session) -> list[str]:
    return [
        *[f"table {name} is missing" for (name,) in await work.rows(MISSING_TABLES)],
        *[f"column {name} is missing" for (name,) in await work.rows(MISSING_COLUMNS)],
        *[f"index {name} is missing" for (name,) in await work.rows(MISSING_INDEXES)],
        *[f"function {what}" for (what,) in await work.rows(WRONG_FUNCTIONS)],
        *[f"table {name} is open to {who}" for name, who in await work.rows(OPEN_TABLES)],
        *[f"function {name} is open to {who}" for name, who in await work.rows(OPEN_FUNCTIONS)],
        *[
            f"table {name} is without row level security"
            for (name,) in await work.rows(WITHOUT_RLS)
        ],
    ]
