"""Late imports of the extras `pages` and `crawl`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import MissingExtraError


def require(module: str, extra: str = "pages") -> Any:
    """Import a module of an extra; untyped, for most of them have no type stubs.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], extra) from error
