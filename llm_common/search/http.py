"""One JSON request to an engine, and its failures by type."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    RateLimitedError,
)

if TYPE_CHECKING:
    import httpx

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


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


async def post_json(
    engine: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any], timeout_s: float
) -> dict[str, Any]:
    """POST JSON and return the JSON object that comes back.

    Raises:
        CallError: by type; the engine's own text stays out of the message.
    """
    import httpx

    try:
        response = await _client().post(url, headers=headers, json=body, timeout=timeout_s)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
        raise ProviderUnavailableError(f"{engine} can't be reached", provider=engine) from None
    except httpx.TimeoutException:
        raise ProviderTimeoutError(f"{engine} gave no answer in time", provider=engine) from None
    except httpx.HTTPError as error:
        problem = f"{engine}'s answer broke off ({type(error).__name__})"
        raise BrokenResponseError(problem, provider=engine) from None
    if response.status_code != 200:
        raise _refusal(engine, response)
    return _object(engine, response)


def _refusal(engine: str, response: httpx.Response) -> CallError:
    status = response.status_code
    kinds: dict[int, type[CallError]] = {
        401: AuthenticationError,
        403: AuthenticationError,
        408: ProviderTimeoutError,
        429: RateLimitedError,
    }
    kind = kinds.get(status, ProviderUnavailableError if status >= 500 else BadRequestError)
    after = response.headers.get("retry-after", "")
    return kind(
        f"{engine} answered with HTTP {status}",
        provider=engine,
        status=status,
        retry_after_s=float(after) if after.isdigit() else None,
    )


def _object(engine: str, response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        what = "HTML" if "<" in response.text[:50] else "something that is not JSON"
        raise BrokenResponseError(
            f"{engine} answered with {what}: check {engine.upper()}_BASE_URL",
            provider=engine,
            status=response.status_code,
        ) from None
    if not isinstance(value, dict):
        raise BrokenResponseError(f"{engine} answered in an unknown shape", provider=engine)
    return value  # pyright: ignore[reportUnknownVariableType]


def listed(engine: str, value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of results under `key`; an absent one is an answer of another shape.

    Raises:
        BrokenResponseError: there is no such list.
    """
    found = value.get(key)
    if not isinstance(found, list):
        raise BrokenResponseError(f"{engine} answered without {key!r}", provider=engine)
    return [r for r in found if isinstance(r, dict)]  # pyright: ignore[reportUnknownVariableType]
