"""Requests and answers in OpenAI's format, as values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..errors import BrokenResponseError
from ..routing import Deployment, ModelSpec
from ..types import ToolCall
from .base import ChatRequest, Reply
from .failures import failure, from_status
from .usage import cost_reported, table, usage_of

_FINISH = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",  # Mistral
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Z.ai
}
_UNFINISHED = ("error", "network_error")

# What goes back to the provider with the next turn; reasoning must, where a model asks for it.
_KEPT = (
    "role",
    "content",
    "tool_calls",
    "reasoning_content",  # DeepSeek
    "reasoning_details",  # OpenRouter
    "thinking_blocks",  # Anthropic, as litellm writes it
)


def arguments(spec: ModelSpec, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
    """Return the request's arguments with the model's quirks applied, `model` left out.

    A stream's usage is asked for, whatever the caller says: the ledger needs it.
    """
    values: dict[str, Any] = {
        "messages": [dict(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "tools": [dict(tool) for tool in request.tools] or None,
        "tool_choice": request.tool_choice,
        "response_format": request.response_format,
        "stream": True if stream else None,
        "stream_options": {**request.extra.get("stream_options", {}), "include_usage": True}
        if stream
        else None,
    }
    named = {
        spec.rename.get(key, key): value
        for key, value in values.items()
        if value is not None and key not in spec.drop
    }
    passed = {key: value for key, value in request.extra.items() if key != "stream_options"}
    return {**spec.extra, **named, **passed}


def reply_of(deployment: Deployment, data: Any, request_id: str | None) -> Reply:
    """Read an answer that came with HTTP 200.

    Raises:
        CallError: the body holds an error.
        BrokenResponseError: it is not a chat completion.
    """
    answer = table(data)
    choice = table(next(iter(answer.get("choices") or ()), None))
    for place in (answer, choice):
        if place.get("error"):
            raise from_status(deployment, 200, {}, place)
    said = table(choice.get("message"))
    if not said or choice.get("finish_reason") in _UNFINISHED:
        raise failure(BrokenResponseError, deployment, status=200)
    asked = (table(call) for call in said.get("tool_calls") or ())
    calls = tuple(_tool_call(call) for call in asked if not is_server_call(call))
    usage = answer.get("usage")
    finish = _FINISH.get(str(choice.get("finish_reason")), "stop")
    return Reply(
        text=_text(said.get("content")),
        usage=usage_of(usage),
        model=str(answer.get("model") or deployment.model.id),
        finish_reason="tool_calls" if calls and finish == "stop" else finish,
        tool_calls=calls,
        cost_usd=cost_reported(deployment.provider, usage),
        request_id=request_id or answer.get("id"),
        refusal=said.get("refusal"),
        message={key: said[key] for key in _KEPT if said.get(key) is not None},
    )


def is_server_call(call: Mapping[str, Any]) -> bool:
    """Whether Anthropic has run a tool by itself; litellm lists that with the caller's tools."""
    return str(call.get("id")).startswith("srvtoolu_")


def _text(content: Any) -> str:
    """Join the text of a message; Mistral's reasoning models answer in parts."""
    if not isinstance(content, list):
        return str(content or "")
    parts = [table(part) for part in cast("list[Any]", content)]
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = table(call.get("function"))
    return ToolCall(
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=str(function.get("arguments") or "{}"),
    )
