"""The wire for OpenAI-compatible endpoints: the `openai` client on aiohttp, retries off.

Answers are read as JSON: building the client's response models costs as much as the call itself.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import BrokenResponseError, CallError, ProviderTimeoutError
from ..routing import Deployment
from .base import ChatRequest, Reply
from .connections import lost_connection
from .failures import decode, failure, from_status
from .openai_format import arguments, reply_of

if TYPE_CHECKING:
    import httpx
    from openai import AsyncOpenAI

CONNECT_TIMEOUT_S = 10.0

ClientKey = tuple[int, str | None, str]
"""Process id, base URL and key: a forked child never uses its parent's sockets."""


class OpenAIWire:
    """Carries requests to OpenAI-compatible endpoints; one instance serves a process.

    Transports are kept per event loop, base URL and key until `aclose`.
    """

    def __init__(self) -> None:
        self._clients: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[ClientKey, AsyncOpenAI]
        ] = WeakKeyDictionary()

    async def send(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> Reply:
        """Send one request; see `Provider.send`."""
        body = {"model": deployment.model.id, **arguments(deployment.model, request)}
        response = await self._post(deployment, "/chat/completions", body, timeout_s)
        data = decode(deployment, response.content)
        return reply_of(deployment, data, response.headers.get("x-request-id"))

    async def aclose(self) -> None:
        """Close the transports of this event loop."""
        clients = self._clients.pop(asyncio.get_running_loop(), {})
        for (pid, _, _), client in clients.items():
            if pid == os.getpid():
                await client.close()

    async def _post(
        self, deployment: Deployment, path: str, body: dict[str, Any], timeout_s: float
    ) -> httpx.Response:
        import httpx
        from openai import APIConnectionError, APIStatusError

        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client(deployment).post(
                    path, cast_to=httpx.Response, body=body, options={"timeout": timeout}
                )
        except APIStatusError as error:
            raise _refused(deployment, error.response) from None
        except APIConnectionError as error:
            kind = lost_connection(error) or BrokenResponseError
            raise failure(kind, deployment) from None
        except TimeoutError:
            raise failure(ProviderTimeoutError, deployment) from None

    def _client(self, deployment: Deployment) -> AsyncOpenAI:
        clients = self._clients.setdefault(asyncio.get_running_loop(), {})
        key = (os.getpid(), deployment.base_url, deployment.key)
        if key not in clients:
            clients[key] = _connect(deployment)
        return clients[key]


def _connect(deployment: Deployment) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAioHttpClient

    client = AsyncOpenAI(
        api_key=deployment.key,
        base_url=deployment.base_url,
        max_retries=0,
        http_client=DefaultAioHttpClient(),
    )
    if deployment.provider != "openai":
        # The client reads these from the environment and would tell them to other companies.
        client.organization = client.project = None
    return client


def _refused(deployment: Deployment, response: httpx.Response) -> CallError:
    try:
        body = decode(deployment, response.content)
    except BrokenResponseError:
        body = None
    return from_status(deployment, response.status_code, response.headers, body)
