"""One JSON request to an engine, and its failures by type."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)
from ..retry_after import retry_after_s

if TYPE_CHECKING:
    import httpx

Codes = Mapping[str, type[CallError]]

_KINDS: dict[int, type[CallError]] = {
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: AuthenticationError,
    # An address that moved is not the request's fault: another engine may well answer it.
    404: ProviderUnavailableError,
    405: ProviderUnavailableError,
    408: ProviderTimeoutError,
    410: ProviderUnavailableError,
    429: RateLimitedError,
    # Tavily's own: the limit of the plan, and that of paying as one goes.
    432: QuotaExhaustedError,
    433: QuotaExhaustedError,
}
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Request:
    """One request to an engine.

    Attributes:
        params: of a GET; None makes it a POST of `body`.
        codes: what a part of an error's body means, where its HTTP status says too little.
    """

    engine: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    params: Mapping[str, Any] | None = field(default=None, repr=False)
    codes: Codes = field(default_factory=dict[str, type[CallError]])


def _client() -> httpx.AsyncClient:
    """Return the connection pool of this event loop."""
    import httpx

    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = httpx.AsyncClient(follow_redirects=False)
    return _clients[loop]


async def close() -> None:
    """Close the connections of this event loop."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()


async def ask(request: Request, timeout_s: float) -> dict[str, Any]:
    """Send a request and return the JSON object that comes back.

    Raises:
        CallError: by type; the engine's own text stays out of the message.
    """
    import httpx

    engine = request.engine
    try:
        # httpx counts the time of each read; an engine that drips is cut off as a whole.
        async with asyncio.timeout(timeout_s):
            response = await _send(request, timeout_s)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
        raise ProviderUnavailableError(f"{engine} can't be reached", provider=engine) from None
    except (httpx.TimeoutException, TimeoutError):
        raise ProviderTimeoutError(f"{engine} gave no answer in time", provider=engine) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = f"{engine}'s answer broke off ({type(error).__name__})"
        raise BrokenResponseError(problem, provider=engine) from None
    if response.status_code != 200:
        raise _refusal(request, response)
    return _object(engine, response)


async def _send(request: Request, timeout_s: float) -> httpx.Response:
    if request.params is not None:
        return await _client().get(
            request.url, headers=request.headers, params=request.params, timeout=timeout_s
        )
    return await _client().post(
        request.url, headers=request.headers, json=request.body, timeout=timeout_s
    )


def _refusal(request: Request, response: httpx.Response) -> CallError:
    status, engine = response.status_code, request.engine
    kind = _KINDS.get(status, ProviderUnavailableError if status >= 500 else BadRequestError)
    said = response.text
    kind = next((meant for code, meant in request.codes.items() if code in said), kind)
    check = f": check {engine.upper()}_BASE_URL" if status in (404, 405, 410) else ""
    return kind(
        f"{engine} answered with HTTP {status}{check}",
        provider=engine,
        status=status,
        retry_after_s=retry_after_s(response.headers, time.time()),
    )


def _object(engine: str, response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except (ValueError, RecursionError):
        what = "HTML" if "<" in response.text[:50] else "something that is not JSON"
        raise BrokenResponseError(
            f"{engine} answered with {what}: check {engine.upper()}_BASE_URL",
            provider=engine,
            status=response.status_code,
        ) from None
    if not isinstance(value, dict):
        raise BrokenResponseError(f"{engine} answered in an unknown shape", provider=engine)
    return value  # pyright: ignore[reportUnknownVariableType]


def listed(engine: str, value: object, key: str) -> list[dict[str, Any]]:
    """Return the list of results under `key`; an absent one is an answer of another shape.

    Raises:
        BrokenResponseError: there is no such list.
    """
    found: object = value.get(key) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if not isinstance(found, list):
        raise BrokenResponseError(f"{engine} answered without {key!r}", provider=engine)
    return [r for r in found if isinstance(r, dict)]  # pyright: ignore[reportUnknownVariableType]


def at(base_url: str, path: str) -> str:
    """Return the address of a path below an engine's base URL."""
    return f"{base_url.rstrip('/')}{path}"
