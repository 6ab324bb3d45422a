"""An application for one machine: the routes, the page, and a token that opens both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...enrichment import EnrichmentPipeline
from .enrichment import enrichment_router
from .page import page_router

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
REFUSAL = "open the address that llm-common serve has printed, or send its token as Bearer"


def local_app(
    pipeline: EnrichmentPipeline, *, token: str, user: str, port: int, model: str | None = None
) -> FastAPI:
    """Return an application that whoever knows the token may use, by header or in a browser.

    Args:
        token: long and random; ``/enter?token=…`` exchanges it for a cookie.
        user: who decides reviews.
        port: names the cookie: all ports of a host share theirs.
        model: as for `enrichment_router`.
    """
    cookie = f"llm_common_{port}"
    authorize = _guard(token, cookie, user)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await pipeline.aclose()

    app = FastAPI(
        title="llm-common serve",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(_Headers)
    app.include_router(enrichment_router(pipeline, authorize=authorize, model=model))
    app.include_router(page_router(authorize=authorize))

    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    async def enter(request: Request) -> Response:
        given = request.query_params.get("token", "")
        if not _is_same(given, token):
            raise HTTPException(401, REFUSAL)
        answer = RedirectResponse("./", 303)
        answer.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
        return answer

    app.add_api_route(
        "/openapi.json", openapi, dependencies=[Depends(authorize)], include_in_schema=False
    )
    app.add_api_route("/enter", enter, include_in_schema=False)
    return app


def _guard(token: str, cookie: str, user: str) -> Callable[..., str]:
    bearer = Depends(HTTPBearer(auto_error=False))
    session = Depends(APIKeyCookie(name=cookie, auto_error=False))

    def authorize(
        request: Request,
        header: Any = bearer,
        kept: Any = session,
    ) -> str:
        if header is not None and _is_same(header.credentials, token):
            return user
        if kept is not None and _is_same(kept, token) and _is_ours(request):
            return user
        raise HTTPException(401, REFUSAL, {"WWW-Authenticate": "Bearer"})

    return authorize


def _is_same(given: str, token: str) -> bool:
    return compare_digest(given.encode(), token.encode())


def _is_ours(request: Request) -> bool:
    """Tell whether our own page asks: those on other ports of the host get the cookie, too."""
    origin = request.headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.headers.get("host")
    return request.headers.get("sec-fetch-site", "none") in {"none", "same-origin"}


class _Headers:
    """Adds what keeps a browser to this application.

    Args:
        app: the application behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await self._app(scope, receive, sent)
