"""FastAPI: the arm of a request as a dependency, enrichments as routes, and a page for them.

Needs the extra ``web``; tables as uploads and downloads need ``tables``.
"""

from __future__ import annotations

from ...errors import MissingExtraError

try:
    import fastapi as _fastapi  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise MissingExtraError("fastapi", "web") from error

from .enrichment import enrichment_router
from .exposure import exposed
from .local import local_app
from .page import page_router

__all__ = ["enrichment_router", "exposed", "local_app", "page_router"]
