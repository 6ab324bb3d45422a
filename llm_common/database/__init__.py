"""Connectors, the embedded Postgres and the migration runner."""

from .base import Database

__all__ = ["Database"]
