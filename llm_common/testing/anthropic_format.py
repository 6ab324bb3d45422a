"""Anthropic's messages, as its public reference describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .extractive import write_json
from .openai_format import pieces
from .question import Generated, Question, Tool, Turn, count_tokens

Body = Mapping[str, Any]

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def read_question(body: Body) -> Question:
    """Read a messages request."""
    turns = [Turn("system", _text(body.get("system")))] if body.get("system") else []
    turns += [_turn(message) for message in body["messages"]]
    tools = [t for t in body.get("tools") or () if "input_schema" in t]
    config: Body = body.get("output_config") or {}
    form: Body = body.get("output_format") or config.get("format") or {}
    extras = [write_json(x) for x in (tools, form) if x]
    return Question(
        turns=tuple(turns),
        tools=tuple(Tool(t["name"], t["input_schema"]) for t in tools),
        forced=_forced(body.get("tool_choice") or {}),
        schema=form.get("schema"),
        max_tokens=body.get("max_tokens"),
        stream=bool(body.get("stream")),
        tokens=sum(count_tokens(text) for text in (*(t.text for t in turns), *extras)),
    )


def _turn(message: Body) -> Turn:
    content: Any = message.get("content")
    results = not isinstance(content, str) and any(b["type"] == "tool_result" for b in content)
    return Turn("tool" if results else message.get("role", "user"), _text(content))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts: list[str] = []
    for block in content or ():
        inner = block.get("content") if block["type"] == "tool_result" else block.get("text")
        parts.append(_text(inner) if inner else "")
    return "\n".join(parts)


def _forced(choice: Body) -> str | None:
    return {"tool": choice.get("name"), "any": "*"}.get(choice.get("type", ""))


def write_answer(made: Generated) -> dict[str, Any]:
    """Write a complete answer."""
    return _message(made) | {
        "content": _blocks(made),
        "stop_reason": STOP_REASONS.get(made.finish_reason, made.finish_reason),
    }


def _message(made: Generated) -> dict[str, Any]:
    return {
        "id": f"msg_{made.request_id}",
        "type": "message",
        "role": "assistant",
        "model": made.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        **_usage(made, made.usage.output_tokens),
    }


def _blocks(made: Generated) -> list[dict[str, Any]]:
    said = made.text or made.refusal
    blocks: list[dict[str, Any]] = [{"type": "text", "text": said}] if said else []
    return blocks + [
        {"type": "tool_use", "id": use.id, "name": use.name, "input": use.arguments}
        for use in made.tool_uses
    ]


def _usage(made: Generated, output_tokens: int) -> dict[str, Any]:
    """Write usage: `input_tokens` leaves out what was read from or written to the cache."""
    if not made.report_usage:
        return {}
    usage = made.usage
    plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    return {
        "usage": {
            "input_tokens": plain,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cached_input_tokens,
            "output_tokens": output_tokens,
        }
    }


def write_chunks(made: Generated, _question: Question) -> list[str]:
    """Write the events of a stream; its start names one output token, its end all of them."""
    start = _message(made) | _usage(made, 1)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(_blocks(made)):
        events += _block_events(index, block)
    stop = STOP_REASONS.get(made.finish_reason, made.finish_reason)
    delta = {"stop_reason": stop, "stop_sequence": None}
    whole = _usage(made, made.usage.output_tokens)
    events.append({"type": "message_delta", "delta": delta, **whole})
    events.append({"type": "message_stop"})
    return [f"event: {e['type']}\ndata: {write_json(e)}\n\n" for e in events]


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    empty: dict[str, Any]
    if block["type"] == "text":
        empty = {**block, "text": ""}
        kind, key = "text_delta", "text"
        parts = pieces(block["text"])
    else:
        empty = {**block, "input": dict[str, Any]()}
        kind, key = "input_json_delta", "partial_json"
        parts = pieces(write_json(block["input"]))
    deltas = [{"type": kind, key: part} for part in parts]
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": d} for d in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def write_error(status: int, code: str) -> dict[str, Any]:
    """Write an error body."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    long = "prompt is too long: more tokens than the model takes"
    message = long if code == "context_length_exceeded" else f"The fake answers {status}."
    kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
