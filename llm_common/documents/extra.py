"""Late imports of the extra `documents`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import MissingExtraError


def require(module: str) -> Any:
    """Import a module of the extra; untyped, for neither lxml nor pypdfium2 has type stubs.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], "documents") from error
