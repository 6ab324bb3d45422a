"""Texts become vectors: one operation, reserved and recorded like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..calls import Answer, Operation, attempt, operate
from ..cost_tracker import Kind
from ..providers import EmbedRequest, Vectors, embed_fault, provider_for
from ..routing import Deployment
from ..types import Embeddings
from .conversation import NO_USAGE, POLICY
from .requests import embed_target


async def embed_texts(
    op: Operation,
    deployments: Sequence[Deployment],
    texts: Sequence[str],
    extra: Mapping[str, Any],
) -> Embeddings:
    """Ask deployments in order until one answers with a vector for each text.

    Raises:
        BudgetError: refused before the wire.
        CallError: the last attempt failed.
    """
    request = EmbedRequest(texts, extra)

    async def try_one(deployment: Deployment, kind: Kind) -> tuple[Deployment, Vectors]:
        async def send() -> Answer[Vectors]:
            wire = provider_for(deployment)
            found = await wire.embed(deployment, request, timeout_s=op.timeout_s)
            fault = embed_fault(found, len(texts), deployment)
            return Answer(found, found.usage, found.cost_usd, found.model, fault)

        answer = await attempt(op, embed_target(deployment, texts), kind, send)
        return deployment, answer.value

    deployment, found = await operate(op, deployments, try_one, POLICY)
    return Embeddings(
        vectors=found.vectors,
        usage=found.usage or NO_USAGE,
        cost_usd=op.cost_usd,
        cost_source=op.cost_source,
        provider=deployment.provider,
        requested_model=op.requested_model,
        model=found.model,
        deployment=deployment.alias,
        attempts=op.attempts,
        latency_ms=round(op.elapsed_s * 1000),
        operation_id=op.id,
    )
