"""The rows of a SQL query, from Postgres, in a transaction that can't write."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ...database.postgres import identity, is_lost
from ...errors import DatabaseUnavailableError, InvalidInputError
from .table import Table, named

if TYPE_CHECKING:
    from psycopg import ServerCursor

DATABASE = re.compile(r"postgres(ql)?://|(.*\s)?(host|dbname|service)\s*=", re.DOTALL)
"""How a Postgres URL begins, or the other form that libpq reads: ``host=… dbname=…``."""
FETCH = 1000
"""Rows of one round trip."""
CONNECT_S = 10


def read_query(url: str, query: str) -> Table:
    """Open a query; it is planned, but no row of it is read.

    Raises:
        InvalidInputError: it is not one SELECT, or Postgres refuses it.
        DatabaseUnavailableError: there is no connection.
    """
    with _cursor(url, query) as cursor:
        columns = named([column.name for column in cursor.description or ()], "the query")
    return Table(columns, None, partial(_rows, url, query))


def _rows(url: str, query: str) -> Iterator[tuple[Any, ...]]:
    with _cursor(url, query) as cursor:
        yield from cursor


@contextmanager
def _cursor(url: str, query: str) -> Generator[ServerCursor[tuple[Any, ...]], None, None]:
    """Lend a cursor on the server: it takes one statement, which must be a query."""
    import psycopg

    try:
        with psycopg.connect(url, **_patience(url)) as connection:
            connection.read_only = True
            with connection.cursor("llm_common_table") as cursor:
                cursor.itersize = FETCH
                cursor.execute(query.encode())
                yield cursor
            # Whatever a function of the query would leave behind goes too.
            connection.rollback()
    except psycopg.Error as error:
        raise _refused(error, url) from None


def _patience(url: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    identity(url, "")  # Says what is wrong with a URL, without its password.
    return {} if "connect_timeout" in conninfo_to_dict(url) else {"connect_timeout": CONNECT_S}


def _refused(error: Any, url: str) -> DatabaseUnavailableError | InvalidInputError:
    if is_lost(error):
        return DatabaseUnavailableError(f"{identity(url, '').strip()} can't be reached for a query")
    said = error.diag.message_primary or type(error).__name__
    return InvalidInputError(
        f"the query can't be read as a table: {said} (it must be one SELECT, and may not write)"
    )
