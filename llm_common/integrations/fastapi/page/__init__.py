"""The page: jobs, their rows and the review queue, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}


def page_router(*, authorize: Callable[..., Any]) -> APIRouter:
    """Return the routes of the page; it asks `enrichment_router`'s, which must be beside it.

    Args:
        authorize: as for `enrichment_router`.
    """
    router = APIRouter(include_in_schema=False)
    for path, (name, media) in FILES.items():
        router.add_api_route(path, _serving(name, media), dependencies=[Depends(authorize)])
    return router


def _serving(name: str, media: str) -> Callable[[], Any]:
    content = (files(__name__) / name).read_bytes()

    async def serve() -> Response:
        return Response(content, media_type=media)

    return serve
