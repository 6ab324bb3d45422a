"""What a lost connection means, and an HTTP client that never sends anything twice."""

from __future__ import annotations

from typing import Any

from ..errors import (
    BrokenResponseError,
    CallError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)


def lost_connection(error: BaseException) -> type[CallError] | None:
    """Tell what was lost with a connection, or None when no connection failed.

    aiohttp's own exception decides: the transports in between report a refused connection, where
    nothing was sent, and a server that hung up in mid-answer by the same type.
    """
    import aiohttp

    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return ProviderUnavailableError
            case aiohttp.InvalidURL():
                return ProviderUnavailableError
            case aiohttp.ServerTimeoutError():
                return ProviderTimeoutError
            case aiohttp.ClientError():
                return BrokenResponseError
            case _:
                cause = cause.__cause__ or cause.__context__
    return None


def one_shot_handler() -> Any:
    """Make the `AsyncHTTPHandler` that litellm is given, so that it sends each request once.

    Its own handler sends a request a second time when the connection breaks, even if the server
    has read the first one: that would be paid twice and recorded once.
    """
    import httpx
    from litellm.llms.custom_httpx import (  # pyright: ignore[reportMissingTypeStubs]
        http_handler,
    )
    from openai import DefaultAioHttpClient

    class OneShotClient(DefaultAioHttpClient):
        async def send(self, *args: object, **kwargs: object) -> httpx.Response:
            try:
                return await super().send(*args, **kwargs)  # type: ignore[arg-type]
            except (httpx.RemoteProtocolError, httpx.ConnectError) as error:
                # Any other type is not repeated.
                raise httpx.ReadError(type(error).__name__) from error

    class OneShotHandler(http_handler.AsyncHTTPHandler):
        def create_client(self, *_: object, **__: object) -> httpx.AsyncClient:
            return OneShotClient()

    return OneShotHandler()
