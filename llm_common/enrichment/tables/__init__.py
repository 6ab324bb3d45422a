"""Tables in and out: CSV, Excel, Parquet, JSON, and Postgres as a source."""

from __future__ import annotations

from .opening import open_table
from .table import Table
from .writing import write_table

__all__ = ["Table", "open_table", "write_table"]
