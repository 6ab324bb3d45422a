"""The wire of a deployment; one of each kind serves the process."""

from __future__ import annotations

from functools import lru_cache

from ..routing import Deployment
from .base import Provider
from .litellm_wire import LiteLLMWire
from .openai_wire import OpenAIWire


def provider_for(deployment: Deployment) -> Provider:
    """Return the wire that carries requests to a deployment, shared by the process."""
    return _litellm() if deployment.wire == "litellm" else _openai()


async def aclose() -> None:
    """Close what the wires hold open in this event loop."""
    for wire in (_openai, _litellm):
        if wire.cache_info().currsize:
            await wire().aclose()


@lru_cache(maxsize=1)
def _openai() -> OpenAIWire:
    return OpenAIWire()


@lru_cache(maxsize=1)
def _litellm() -> LiteLLMWire:
    return LiteLLMWire()
