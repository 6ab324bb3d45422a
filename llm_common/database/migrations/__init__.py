"""The migration runner: up, down, status, verify, emit."""

from .emit import emit
from .files import Migration, read
from .runner import Status, down, status, up
from .verify import verify

__all__ = ["Migration", "Status", "down", "emit", "read", "status", "up", "verify"]
