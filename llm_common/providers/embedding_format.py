"""Requests for embeddings and their answers in OpenAI's format, as values. No I/O."""

from __future__ import annotations

import base64
import struct
from typing import Any

from ..errors import BrokenResponseError, CallError, EmptyResponseError
from ..routing import Deployment, ModelSpec
from .base import EmbedRequest, Vectors
from .failures import failure, from_status
from .usage import cost_reported, table, usage_of


def embed_arguments(spec: ModelSpec, request: EmbedRequest) -> dict[str, Any]:
    """Return the request's arguments with the model's quirks applied, `model` left out."""
    return {**spec.extra, "input": list(request.texts), **request.extra}


def vectors_of(deployment: Deployment, data: Any) -> Vectors:
    """Read an answer that came with HTTP 200.

    Raises:
        CallError: the body holds an error.
        BrokenResponseError: it holds something else than vectors.
    """
    answer = table(data)
    if answer.get("error"):
        raise from_status(deployment, 200, {}, answer)
    try:
        rows = sorted((table(row) for row in answer["data"]), key=lambda row: row["index"])
        vectors = tuple(_vector(row["embedding"]) for row in rows)
    except (KeyError, TypeError, ValueError, struct.error):
        raise failure(BrokenResponseError, deployment, status=200) from None
    return Vectors(
        vectors,
        usage_of(answer.get("usage")),
        str(answer.get("model") or deployment.model.id),
        cost_reported(deployment.provider, answer.get("usage")),
    )


def embed_fault(answer: Vectors, texts: int, deployment: Deployment) -> CallError | None:
    """Return what is wrong with vectors that came with HTTP 200, or None; see `fault`. Pure."""
    if not answer.vectors:
        return failure(EmptyResponseError, deployment, status=200)
    if len(answer.vectors) != texts:
        return failure(BrokenResponseError, deployment, status=200)
    return None


def _vector(value: Any) -> tuple[float, ...]:
    """Read numbers, or the base64 text of 32-bit ones, lowest byte first."""
    if isinstance(value, str):
        data = base64.b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    return tuple(float(number) for number in value)
