"""The wire for OpenAI-compatible endpoints: the `openai` client on aiohttp, retries off.

Answers are read as JSON: building the client's response models costs as much as the call itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from ..errors import BrokenResponseError, ProviderTimeoutError
from ..routing import Deployment
from .base import ChatRequest, Chunk, EmbedRequest, Reply, Vectors
from .connections import lost_connection
from .embedding_format import embed_arguments, vectors_of
from .failures import decode, failure, refused
from .openai_format import arguments, reply_of
from .sse import events
from .usage import table

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

    async def stream(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> AsyncGenerator[Chunk, None]:
        """Send one request and yield the chunks of its answer; see `Provider.stream`."""
        import aiohttp
        import httpx

        values = arguments(deployment.model, request, stream=True)
        body = {"model": deployment.model.id, **values}
        response = await self._post(deployment, "/chat/completions", body, timeout_s, stream=True)
        try:
            async for data in _events(response):
                if data == b"[DONE]":
                    return
                yield table(decode(deployment, data))
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise failure(lost_connection(error) or BrokenResponseError, deployment) from None
        finally:
            await response.aclose()

    async def embed(
        self, deployment: Deployment, request: EmbedRequest, *, timeout_s: float
    ) -> Vectors:
        """Send one request for embeddings; see `Provider.embed`."""
        body = {"model": deployment.model.id, **embed_arguments(deployment.model, request)}
        response = await self._post(deployment, "/embeddings", body, timeout_s)
        return vectors_of(deployment, decode(deployment, response.content))

    async def aclose(self) -> None:
        """Close the transports of this event loop."""
        clients = self._clients.pop(asyncio.get_running_loop(), {})
        for (pid, _, _), client in clients.items():
            if pid == os.getpid():
                await client.close()

    async def _post(
        self,
        deployment: Deployment,
        path: str,
        body: dict[str, Any],
        timeout_s: float,
        *,
        stream: bool = False,
    ) -> httpx.Response:
        import httpx
        from openai import APIConnectionError, APIStatusError, AsyncStream

        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client(deployment).post(
                    path,
                    cast_to=httpx.Response,
                    body=body,
                    options={"timeout": timeout},
                    stream=stream,
                    stream_cls=AsyncStream[Any],
                )
                # With this `cast_to` a stream, too, is the bare response.
                return cast("httpx.Response", answer)
        except APIStatusError as error:
            answer = error.response
            raise refused(deployment, answer.status_code, answer.headers, answer.content) from None
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


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the data of a stream's events; a body that is no stream is one of them."""
    if "json" in response.headers.get("content-type", ""):
        yield await response.aread()
        return
    async for data in events(response.aiter_bytes()):
        yield data
