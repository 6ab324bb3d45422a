"""What the registry describes: models, deployments, tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from ..pricing import Price
from ..types import Lane

Wire = Literal["openai", "litellm"]
Structured = Literal["json_schema", "tools", "json"]


class LLMTask(StrEnum):
    """What a host wants done; the registry names a primary model and fallbacks for each."""

    RESEARCH = "research"
    GENERATE = "generate"
    REVIEW = "review"
    CHAT = "chat"
    EXTRACT = "extract"
    ENRICH = "enrich"
    CLASSIFY = "classify"
    SUMMARIZE = "summarize"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Facts about one model at one provider.

    Attributes:
        name: bare name that callers use, such as ``gpt-4o``.
        id: the provider's own id for it, such as ``openai/gpt-4o`` at OpenRouter.
        context_tokens: input plus output that the model takes.
        max_output_tokens: most that one answer can hold.
        default_max_tokens: sent when the caller names no `max_tokens`.
        structured: how the model is made to answer a schema.
        drop: parameters that the model refuses, such as ``temperature``.
        rename: parameters that the model knows by another name.
        extra: arguments that it always needs.
        listed: its figures are facts; False when nothing is known of it.
    """

    name: str
    id: str
    provider: str
    context_tokens: int
    max_output_tokens: int
    default_max_tokens: int = 4096
    structured: Structured = "tools"
    drop: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at an endpoint with a key.

    Attributes:
        alias: names it in rows and logs, such as ``openai/gpt-4o#1``; never the key.
        key_alias: the variable that the key came from, such as ``GEMINI_API_KEY_2``, or
            ``argument``.
        base_url: the endpoint; None means the wire's own default.
        lane: what rate limits, cooldowns and circuits know it by.
        ceiling: the most that it can cost, where the host says so; for unknown prices.
    """

    alias: str
    provider: str
    model: ModelSpec
    wire: Wire
    base_url: str | None
    key_alias: str
    key: str = field(repr=False)
    lane: Lane
    ceiling: Price | None = None
