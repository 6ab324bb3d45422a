"""Late imports of the extra `tables`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ...errors import MissingExtraError


def require(module: str) -> Any:
    """Import a module of the extra; untyped, for not all of them have type stubs.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], "tables") from error
