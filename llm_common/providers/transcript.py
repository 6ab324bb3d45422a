"""A streamed answer as it arrives: chunks in, deltas out, and the whole of it at the end. No I/O.

Chunks are OpenAI's; what other providers write differently is read here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from ..errors import BrokenResponseError
from ..routing import Deployment
from ..types import Delta, ToolCallDelta, Usage
from .base import Chunk, Reply
from .failures import failure, from_status
from .openai_format import is_server_call, reply_of
from .usage import cost_reported, table, usage_of

_REASONING = ("reasoning_content", "reasoning")  # DeepSeek, Z.ai and litellm; OpenRouter and Groq
_BLOCKS = ("reasoning_details", "thinking_blocks")


class Transcript:
    """What has arrived of one answer.

    Attributes:
        usage: None until the provider has named it.
        model: as the provider named it; the one asked for, until then.
        started: deltas have arrived.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.usage: Usage | None = None
        self.cost_usd: Decimal | None = None
        self.model = deployment.model.id
        self.started = False
        self._deployment = deployment
        self._id: str | None = None
        self._finish: str | None = None
        self._text: list[str] = []
        self._reasoning: dict[str, list[str]] = {}
        self._refusal: list[str] = []
        self._calls = _Calls()
        self._blocks: dict[str, list[dict[str, Any]]] = {}

    def add(self, chunk: Chunk) -> list[Delta]:
        """Take the next chunk; return what it adds to the answer.

        Raises:
            CallError: the chunk is an error.
        """
        if isinstance(chunk, Usage):
            self.usage = chunk
            return []
        choice = table(next(iter(chunk.get("choices") or ()), None))
        for place in (chunk, choice):
            if place.get("error"):
                raise from_status(self._deployment, 200, {}, place)
        self._note(chunk, choice)
        # A server that can't stream answers whole.
        deltas = self._deltas(table(choice.get("delta") or choice.get("message")))
        self.started = self.started or bool(deltas)
        return deltas

    def reply(self) -> Reply:
        """Return the whole answer.

        Raises:
            BrokenResponseError: it ended before it was finished.
        """
        if self._finish is None:
            raise failure(BrokenResponseError, self._deployment, status=200)
        message = {
            "role": "assistant",
            "content": "".join(self._text),
            "refusal": "".join(self._refusal) or None,
            **{name: "".join(pieces) for name, pieces in self._reasoning.items()},
            "tool_calls": self._calls.whole or None,
            **self._blocks,
        }
        choice = {"message": message, "finish_reason": self._finish}
        body = {"id": self._id, "model": self.model, "choices": [choice]}
        reply = reply_of(self._deployment, body, None)
        return replace(reply, usage=self.usage, cost_usd=self.cost_usd)

    def _note(self, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
        self._id = self._id or chunk.get("id")
        self.model = str(chunk.get("model") or self.model)
        self._finish = choice.get("finish_reason") or self._finish
        for raw in (chunk.get("usage"), table(chunk.get("x_groq")).get("usage")):
            usage = usage_of(raw)
            if usage is not None:
                self.usage, self.cost_usd = usage, cost_reported(self._deployment.provider, raw)

    def _deltas(self, said: Mapping[str, Any]) -> list[Delta]:
        found: list[Delta] = []
        text, thinking = _split(said.get("content"))
        for name in _REASONING:
            if said.get(name):
                self._reasoning.setdefault(name, []).append(said[name])
                thinking = thinking or said[name]
        if thinking:
            found.append(Delta(reasoning=thinking))
        if text:
            self._text.append(text)
            found.append(Delta(text=text))
        if said.get("refusal"):
            self._refusal.append(said["refusal"])
        for name in _BLOCKS:
            for block in said.get(name) or ():
                _join_block(self._blocks.setdefault(name, []), table(block))
        pieces = [self._calls.add(table(call)) for call in said.get("tool_calls") or ()]
        return [*found, *(Delta(tool_call=piece) for piece in pieces if piece is not None)]


class _Calls:
    """The tool calls of an answer, put together from their pieces."""

    def __init__(self) -> None:
        self.whole: list[dict[str, Any]] = []
        self._places: dict[Any, int] = {}

    def add(self, piece: Mapping[str, Any]) -> ToolCallDelta | None:
        """Add a piece; return what the caller sees of it: None of what the provider runs."""
        place = self._place(piece)
        call, function = self.whole[place], table(piece.get("function"))
        written = str(function.get("arguments") or "")
        said = call["function"]
        said["name"] = said["name"] or str(function.get("name") or "")
        said["arguments"] += written
        # Beside OpenAI's fields: thought signatures, which must go back with the call.
        call |= {k: v for k, v in piece.items() if k not in ("function", "index") and v is not None}
        if is_server_call(call):
            return None
        index = sum(not is_server_call(earlier) for earlier in self.whole[:place])
        return ToolCallDelta(
            index, str(piece.get("id") or ""), str(function.get("name") or ""), written
        )

    def _place(self, piece: Mapping[str, Any]) -> int:
        """Find the call that a piece belongs to; some servers number every call 0, or none."""
        key, call_id = piece.get("index"), piece.get("id")
        place = self._places.get(key) if key is not None else len(self.whole) - 1
        known = place is not None and place >= 0
        if known and (not call_id or self.whole[cast("int", place)].get("id") in (None, call_id)):
            return cast("int", place)
        self.whole.append({"type": "function", "function": {"name": "", "arguments": ""}})
        self._places[key] = len(self.whole) - 1
        return self._places[key]


def _split(content: Any) -> tuple[str, str]:
    """Return text and thinking; Mistral's reasoning models answer in parts."""
    if not isinstance(content, list):
        return str(content or ""), ""
    text, thinking = "", ""
    for part in cast("list[Any]", content):
        named = table(part)
        if named.get("type") == "text":
            text += str(named.get("text", ""))
        elif named.get("type") == "thinking":
            thinking += _split(named.get("thinking"))[0]
    return text, thinking


def _join_block(blocks: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    """Add a piece of a reasoning block: pieces of one type and index are one block."""
    last = blocks[-1] if blocks else {}
    same = all(last.get(key) == piece.get(key) for key in ("type", "index"))
    if not blocks or not same or last.get("signature"):
        blocks.append(dict(piece))
        return
    for key, value in piece.items():
        both = isinstance(value, str) and isinstance(last.get(key), str)
        joined = key in ("thinking", "text", "summary", "signature", "data") and both
        if value is not None:
            last[key] = last[key] + value if joined else value
