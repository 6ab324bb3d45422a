"""A request and an answer, apart from any provider's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ..types import Usage

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: who speaks (system, user, assistant or tool), and the text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: Schema


@dataclass(frozen=True, slots=True)
class Question:
    """What a chat request asks for.

    Attributes:
        forced: name of the tool that must be called; ``*`` for any.
        schema: of the text, when it must be JSON of a given shape.
        json_object: the text must be JSON, of a shape that only the prompt tells.
        tokens: size of all that was sent.
    """

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    forced: str | None = None
    schema: Schema | None = None
    json_object: bool = False
    max_tokens: int | None = None
    stream: bool = False
    stream_usage: bool = False
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call that the answer makes."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Generated:
    """An answer, before it has any provider's format.

    Attributes:
        usage: what is charged.
        report_usage: whether the answer names its usage.
        cost_usd: told in the answer by providers that do so (OpenRouter).
    """

    request_id: str
    model: str
    text: str
    usage: Usage
    tool_uses: tuple[ToolUse, ...] = field(default=())
    finish_reason: str = "stop"
    refusal: str | None = None
    report_usage: bool = True
    cost_usd: Decimal | None = None


def count_tokens(text: str) -> int:
    """Return ceil(UTF-8 bytes / 4): deterministic, near enough to a tokenizer."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
