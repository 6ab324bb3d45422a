"""What recorded answers say, read independently of the library."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .billing import answered
from .replay import Exchange


@dataclass
class Said:
    """Text and tool calls of an answer; arguments as values."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)


def said(exchange: Exchange) -> Said:
    """Read a recorded chat answer, whole or streamed."""
    bodies = list(answered(exchange))
    if exchange["api"].startswith("gemini"):
        return _gemini(bodies)
    if exchange["api"] == "anthropic-messages":
        return _anthropic(bodies)
    return _openai(bodies)


def _openai(bodies: list[dict[str, Any]]) -> Said:
    found, calls = Said(), {}
    for body in bodies:
        for choice in body.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            found.text += _text(part.get("content"))
            for place, call in enumerate(part.get("tool_calls") or ()):
                name, arguments = calls.setdefault(call.get("index", place), ["", ""])
                function = call["function"]
                calls[call.get("index", place)] = [
                    name or function.get("name"),
                    arguments + (function.get("arguments") or ""),
                ]
    found.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
    return found


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def _anthropic(bodies: list[dict[str, Any]]) -> Said:
    found, arguments = Said(), {}
    for body in bodies:
        for block in body.get("content") or ():
            if block["type"] == "text":
                found.text += block["text"]
            elif block["type"] == "tool_use":
                found.calls.append((block["name"], block["input"]))
        block, delta = body.get("content_block") or {}, body.get("delta") or {}
        if block.get("type") == "tool_use":
            arguments[body["index"]] = [block["name"], ""]
        found.text += block.get("text", "") + delta.get("text", "")
        if body.get("index") in arguments:
            arguments[body["index"]][1] += delta.get("partial_json", "")
    found.calls += [(name, json.loads(text or "{}")) for name, text in arguments.values()]
    return found


def _gemini(bodies: list[dict[str, Any]]) -> Said:
    found = Said()
    for body in bodies:
        for candidate in body.get("candidates") or ():
            for part in (candidate.get("content") or {}).get("parts") or ():
                if "functionCall" in part:
                    call = part["functionCall"]
                    found.calls.append((call["name"], call.get("args") or {}))
                elif not part.get("thought"):
                    found.text += part.get("text", "")
    return found
