"""From the chunks of a wire to deltas, within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..errors import CallError, ProviderTimeoutError
from ..routing import Deployment
from ..types import Delta
from .base import ChatRequest, Chunk
from .failures import failure
from .select import provider_for
from .transcript import Transcript


async def deltas_of(
    deployment: Deployment, request: ChatRequest, transcript: Transcript, timeout_s: float
) -> AsyncGenerator[Delta, None]:
    """Send one request and yield its answer piece by piece; `transcript` gathers it.

    Args:
        timeout_s: for the first delta, and from each to the next; what a server sends to keep
            the connection alive is no delta.

    Raises:
        CallError: as `Provider.stream`. Once deltas have come, `billed` can't be known.
    """
    wire = provider_for(deployment)
    async with aclosing(wire.stream(deployment, request, timeout_s=timeout_s)) as chunks:
        try:
            while (deltas := await _next(chunks, transcript, timeout_s)) is not None:
                for delta in deltas:
                    yield delta
        except TimeoutError:
            raise failure(ProviderTimeoutError, deployment) from None
        except CallError as error:
            if transcript.started:
                error.billed = None
            raise


async def _next(
    chunks: AsyncGenerator[Chunk, None], transcript: Transcript, timeout_s: float
) -> list[Delta] | None:
    async with asyncio.timeout(timeout_s):
        async for chunk in chunks:
            if deltas := transcript.add(chunk):
                return deltas
    return None
