"""Gemini's embeddings, sent by ourselves.

litellm gives this call to a handler of its own, which sends it a second time when the connection
breaks, reads a text like ``files/x`` as a file to be fetched, and drops Gemini's count of tokens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import BrokenResponseError, ProviderTimeoutError
from ..routing import Deployment
from .base import EmbedRequest, Vectors
from .connections import lost_connection
from .failures import decode, failure, refused
from .usage import table, usage_of_gemini

if TYPE_CHECKING:
    import httpx

ENDPOINT = "https://generativelanguage.googleapis.com/v1beta"


async def embed(
    client: httpx.AsyncClient, deployment: Deployment, request: EmbedRequest, timeout_s: float
) -> Vectors:
    """Send one request for embeddings; see `Provider.embed`."""
    import aiohttp
    import httpx

    base_url = (deployment.base_url or ENDPOINT).rstrip("/")
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.post(
                f"{base_url}/models/{deployment.model.id}:batchEmbedContents",
                headers={"x-goog-api-key": deployment.key},
                json=body_of(deployment, request),
                timeout=timeout_s,
            )
    except TimeoutError:
        raise failure(ProviderTimeoutError, deployment) from None
    except (httpx.HTTPError, aiohttp.ClientError) as error:
        raise failure(lost_connection(error) or BrokenResponseError, deployment) from None
    if not response.is_success:
        raise refused(deployment, response.status_code, response.headers, response.content)
    return vectors_of(deployment, decode(deployment, response.content))


def body_of(deployment: Deployment, request: EmbedRequest) -> dict[str, Any]:
    """Write the body: each text is a request of its own, with the same options. Pure."""
    options = {**deployment.model.extra, **request.extra}
    if "dimensions" in options:
        options["outputDimensionality"] = options.pop("dimensions")
    model = f"models/{deployment.model.id}"
    return {
        "requests": [
            {"model": model, "content": {"parts": [{"text": text}]}, **options}
            for text in request.texts
        ]
    }


def vectors_of(deployment: Deployment, data: Any) -> Vectors:
    """Read an answer. Pure.

    Raises:
        BrokenResponseError: it holds something else than vectors.
    """
    answer = table(data)
    try:
        vectors = tuple(
            tuple(float(number) for number in row["values"]) for row in answer["embeddings"]
        )
    except (KeyError, TypeError, ValueError):
        raise failure(BrokenResponseError, deployment, status=200) from None
    return Vectors(vectors, usage_of_gemini(answer.get("usageMetadata")), deployment.model.id)
