"""The seam to a model provider: one request, one answer, no retries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from ..routing import Deployment
from ..types import Messages, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat request, in OpenAI's terms; a wire translates where its provider differs.

    Attributes:
        max_tokens: always sent, because the reservation counts on it.
        extra: arguments passed through as they are.
    """

    messages: Messages
    max_tokens: int
    temperature: float | None = None
    seed: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Any = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer, the same shape for every wire.

    Attributes:
        usage: None when the provider named no usage.
        cost_usd: what the provider says it charged, where it does.
        message: the assistant message in OpenAI's shape, to append to the conversation.
        refusal: the model's own words when it declined.
    """

    text: str
    usage: Usage | None
    model: str
    finish_reason: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    cost_usd: Decimal | None = None
    request_id: str | None = None
    refusal: str | None = None
    message: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to be turned into vectors; `extra` is passed through."""

    texts: Sequence[str]
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Vectors:
    """A provider's answer to an `EmbedRequest`; see `Reply`."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None
    model: str
    cost_usd: Decimal | None = None


Chunk = Mapping[str, Any] | Usage
"""A piece of a streamed answer in OpenAI's format, or its usage where a wire knows it better."""


class Provider(Protocol):
    """A wire that carries requests to deployments."""

    async def send(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> Reply:
        """Send exactly one HTTP request and return what came back.

        Raises:
            CallError: by type what went wrong; foreign exceptions never get through, and their
                text is not in the message. `CallError.billed` says whether it may cost money.
        """
        ...

    def stream(
        self, deployment: Deployment, request: ChatRequest, *, timeout_s: float
    ) -> AsyncGenerator[Chunk, None]:
        """Send exactly one HTTP request and yield the chunks of its answer; see `deltas_of`.

        Closing the generator closes the connection.

        Raises:
            CallError: as `send`, when the first chunk is asked for or between chunks.
        """
        ...

    async def embed(
        self, deployment: Deployment, request: EmbedRequest, *, timeout_s: float
    ) -> Vectors:
        """Send exactly one HTTP request and return the vectors.

        Raises:
            CallError: as `send`.
        """
        ...

    async def aclose(self) -> None:
        """Close the transports of this event loop."""
        ...
