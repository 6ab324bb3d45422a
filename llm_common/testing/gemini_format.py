"""Gemini's generateContent, as its public reference describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .extractive import write_json
from .openai_format import pieces
from .question import Generated, Question, Tool, Turn, count_tokens

Body = Mapping[str, Any]

FINISH_REASONS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}


def read_question(body: Body) -> Question:
    """Read a request; either spelling of its names is taken, as the real one does."""
    system: Body | None = _either(body, "systemInstruction")
    turns = [Turn("system", _text(system["parts"]))] if system else []
    turns += [_turn(content) for content in body["contents"]]
    config: Body = _either(body, "generationConfig") or {}
    tools = [
        declared
        for tool in body.get("tools") or ()
        for declared in _either(tool, "functionDeclarations") or ()
    ]
    schema = _either(config, "responseJsonSchema") or _either(config, "responseSchema")
    extras = [write_json(x) for x in (tools, schema) if x]
    return Question(
        turns=tuple(turns),
        tools=tuple(Tool(t["name"], _lowered(_parameters(t))) for t in tools),
        forced=_forced(_either(body, "toolConfig") or {}),
        schema=_lowered(schema) if schema else None,
        json_object=_either(config, "responseMimeType") == "application/json",
        max_tokens=_either(config, "maxOutputTokens"),
        tokens=sum(count_tokens(text) for text in (*(t.text for t in turns), *extras)),
    )


def read_streamed(body: Body) -> Question:
    """Read a request whose path asks for a stream."""
    return replace(read_question(body), stream=True)


def _either(body: Body, name: str) -> Any:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return body.get(name, body.get(snake))


def _turn(content: Body) -> Turn:
    parts = content["parts"]
    results = [r for part in parts if (r := _either(part, "functionResponse"))]
    if results:
        return Turn("tool", "\n".join(write_json(r.get("response")) for r in results))
    return Turn("assistant" if content.get("role") == "model" else "user", _text(parts))


def _text(parts: Any) -> str:
    listed: list[Body] = [parts] if isinstance(parts, Mapping) else list(parts)
    return "\n".join(part.get("text") or "" for part in listed)


def _parameters(tool: Body) -> Any:
    return _either(tool, "parametersJsonSchema") or tool.get("parameters") or {}


def _lowered(schema: Any) -> Any:
    """Spell types in lower case: Gemini's own schema dialect shouts them."""
    if isinstance(schema, list):
        return [_lowered(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, Mapping):
        return schema
    named: Mapping[str, Any] = schema  # pyright: ignore[reportUnknownVariableType]
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _lowered(value)
        for key, value in named.items()
    }


def _forced(config: Body) -> str | None:
    calling: Body = _either(config, "functionCallingConfig") or {}
    if calling.get("mode") != "ANY":
        return None
    names: list[str] = _either(calling, "allowedFunctionNames") or ["*"]
    return names[0]


def write_answer(made: Generated) -> dict[str, Any]:
    """Write a complete answer."""
    return _chunk(made, _parts(made), FINISH_REASONS.get(made.finish_reason, "STOP"))


def write_chunks(made: Generated, _question: Question) -> list[str]:
    """Write the events of a stream; there is no end mark, the last one has the reason."""
    texts = [[{"text": piece}] for piece in pieces(made.text)]
    calls = [[part] for part in _parts(made) if "functionCall" in part]
    groups: list[list[dict[str, Any]]] = [*texts, *calls] or [[{"text": ""}]]
    reason = FINISH_REASONS.get(made.finish_reason, "STOP")
    last = len(groups) - 1
    events = [_chunk(made, g, reason if i == last else None) for i, g in enumerate(groups)]
    return [f"data: {write_json(event)}\r\n\r\n" for event in events]


def _parts(made: Generated) -> list[dict[str, Any]]:
    said = made.text or made.refusal
    parts: list[dict[str, Any]] = [{"text": said}] if said else []
    return parts + [
        {"functionCall": {"name": use.name, "args": use.arguments}} for use in made.tool_uses
    ]


def _chunk(made: Generated, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return {
        "candidates": [candidate | ({"finishReason": reason} if reason else {})],
        **({"usageMetadata": _usage(made)} if made.report_usage else {}),
        "modelVersion": made.model,
        "responseId": made.request_id,
    }


def _usage(made: Generated) -> dict[str, int]:
    """Write usage: cached input is a part of the prompt, thoughts are apart from candidates."""
    usage = made.usage
    written = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.total_tokens,
    }
    if usage.cached_input_tokens:
        written["cachedContentTokenCount"] = usage.cached_input_tokens
    if usage.reasoning_tokens:
        written["thoughtsTokenCount"] = usage.reasoning_tokens
    return written


def write_error(status: int, code: str) -> dict[str, Any]:
    """Write an error body."""
    names = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
    long = "The input token count exceeds the maximum number of tokens allowed."
    message = long if code == "context_length_exceeded" else f"The fake answers {status}."
    return {"error": {"code": status, "message": message, "status": names.get(status, "UNKNOWN")}}
