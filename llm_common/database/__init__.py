"""Connectors, the embedded Postgres and the migration runner."""

from .base import Database
from .connect import connect, direct_url, one_of
from .handshake import SCHEMA, handshake, schema_of

__all__ = ["SCHEMA", "Database", "connect", "direct_url", "handshake", "one_of", "schema_of"]
