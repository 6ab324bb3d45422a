"""What a lost connection means."""

from __future__ import annotations

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
