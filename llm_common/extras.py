"""Late imports of packages that only some hosts install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingExtraError


def require(module: str, extra: str) -> Any:
    """Import a module of an extra; untyped, for most of them have no type stubs.

    Raises:
        MissingExtraError: its package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], extra) from error
