"""From what a host passes to a table."""

from __future__ import annotations

from pathlib import Path

from ...errors import InvalidInputError
from .delimited import read_delimited
from .parquet import read_parquet
from .query import DATABASE, read_query
from .sheets import read_sheet
from .table import Table

DELIMITED = (".csv", ".tsv")
SHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
PARQUET = (".parquet",)


def open_table(source: str | Path, *, query: str | None = None, sheet: str | None = None) -> Table:
    """Open a table: a file, known by its ending, or what a query finds in Postgres.

    CSV, Parquet and queries are read as a stream, a workbook is held in memory. The call blocks:
    from asyncio, ``await asyncio.to_thread(open_table, source)``.

    Args:
        source: a path that ends in .csv, .tsv, .xlsx, .xlsm, .xlsb, .xls, .ods or .parquet, or a
            Postgres URL.
        query: a SELECT, for a URL; it runs in a READ ONLY transaction.
        sheet: the name of a workbook's sheet; None means its first.

    Raises:
        InvalidInputError: there is no such file, sheet or format, it is broken, or the query is
            refused.
        DatabaseUnavailableError: the database can't be reached.
        MissingExtraError: the extra `tables` is not installed; CSV and queries need none.
    """
    if isinstance(source, str) and DATABASE.match(source):
        if not query or not query.strip():
            raise InvalidInputError("a Postgres URL is a table by a query: pass query='SELECT …'")
        if sheet is not None:
            raise InvalidInputError("a query has no sheets: leave sheet= out")
        return read_query(source, query)
    if query is not None:
        raise InvalidInputError("query= goes with a Postgres URL: postgresql://user@host/database")
    if "://" in str(source):
        # Not repeated: it may hold a password.
        raise InvalidInputError("a URL of a table begins with postgresql:// or postgres://")
    path = Path(source)
    suffix = path.suffix.lower()
    _check(path, suffix)
    if sheet is not None and suffix not in SHEETS:
        raise InvalidInputError(f"{path.name} has no sheets: leave sheet= out")
    try:
        if suffix in DELIMITED:
            return read_delimited(path)
        return read_sheet(path, sheet) if suffix in SHEETS else read_parquet(path)
    except OSError as error:
        raise InvalidInputError(f"{path.name} can't be read: {error.strerror or error}") from error


def _check(path: Path, suffix: str) -> None:
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder: pass a file in it")
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}")
    known = (*DELIMITED, *SHEETS, *PARQUET)
    if suffix not in known:
        given = f"ends in {suffix}" if suffix else "has no ending"
        raise InvalidInputError(f"{path.name} {given}, and a table ends in {', '.join(known)}")
