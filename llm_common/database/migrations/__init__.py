"""The migration runner: up, down, status, verify."""

from .files import Migration, read
from .runner import Status, down, status, up
from .verify import verify

__all__ = ["Migration", "Status", "down", "read", "status", "up", "verify"]
