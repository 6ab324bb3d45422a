"""The HTTP handler that litellm is given: it sends each request once, and lets a tap listen.

Import this late: it imports litellm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

import httpx
from litellm.llms.custom_httpx.http_handler import (  # pyright: ignore[reportMissingTypeStubs]
    AsyncHTTPHandler,
)
from openai import DefaultAioHttpClient

from .tap import Tap


def transport() -> httpx.AsyncClient:
    """Make the connections that the handlers of one event loop share."""
    return DefaultAioHttpClient()


class OneShotHandler(AsyncHTTPHandler):
    """The handler of one call, on connections that it shares.

    litellm's own handler sends a request a second time when the connection breaks, even if the
    server has read the first one: that would be paid twice and recorded once.
    """

    def __init__(self, shared: httpx.AsyncClient, tap: Tap) -> None:
        self._line = cast("httpx.AsyncClient", _Line(shared, tap))
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.client = self._line  # so that nobody closes it

    def create_client(self, *_: object, **__: object) -> httpx.AsyncClient:
        """Return the line; there is no other client to fall back on."""
        return self._line


class _Line:
    """The part of a client that the handler uses."""

    def __init__(self, shared: httpx.AsyncClient, tap: Tap) -> None:
        self._shared = shared
        self._tap = tap
        self.build_request = shared.build_request

    async def send(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        if stream:
            request.headers["accept-encoding"] = "identity"  # for the tap
        self._tap.sent = True
        try:
            response = await self._shared.send(request, stream=stream)
        except (httpx.RemoteProtocolError, httpx.ConnectError) as error:
            # Any other type is not repeated.
            raise httpx.ReadError(type(error).__name__) from error
        if not response.is_success:
            body = await response.aread()
            self._tap.refused = response.status_code, response.headers, body
        elif stream:
            response.stream = _Overheard(response.stream, self._tap)
            self._tap.hang_up = response.aclose
        else:
            self._tap.hear(response.content)
        return response


class _Overheard(httpx.AsyncByteStream):
    """A stream that a tap hears while it is read."""

    def __init__(self, stream: object, tap: Tap) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream = stream
        self._tap = tap

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._stream:
            self._tap.feed(chunk)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
