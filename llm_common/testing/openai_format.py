"""OpenAI's chat completions and embeddings, as its public reference describes them."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

from ..types import Usage
from .extractive import write_json
from .question import Generated, Question, Tool, Turn, count_tokens

CREATED = 1_760_000_000
"""A fixed second: answers are the same at every run."""

Body = Mapping[str, Any]


def read_question(body: Body) -> Question:
    """Read a chat request."""
    turns = tuple(Turn(m.get("role", "user"), _text(m.get("content"))) for m in body["messages"])
    functions = [t["function"] for t in body.get("tools") or () if t.get("type") == "function"]
    form: Body = body.get("response_format") or {}
    wrapper: Body = form.get("json_schema") or {}
    options: Body = body.get("stream_options") or {}
    schema = wrapper.get("schema")
    return Question(
        turns=turns,
        tools=tuple(Tool(f["name"], f.get("parameters") or {}) for f in functions),
        forced=_forced(body.get("tool_choice")),
        schema=schema,
        json_object=form.get("type") == "json_object",
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stream=bool(body.get("stream")),
        stream_usage=bool(options.get("include_usage")),
        tokens=_sent(turns, functions, schema),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or ())


def _forced(choice: Any) -> str | None:
    if isinstance(choice, str) or choice is None:
        return "*" if choice in ("required", "any") else None
    return str(choice["function"]["name"])


def _sent(turns: tuple[Turn, ...], functions: list[Any], schema: Any) -> int:
    extras = [write_json(x) for x in (functions, schema) if x]
    return sum(count_tokens(text) for text in (*(t.text for t in turns), *extras))


def write_answer(made: Generated) -> dict[str, Any]:
    """Write a complete answer."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": made.text or (None if made.tool_uses or made.refusal else ""),
        "refusal": made.refusal,
    }
    if made.tool_uses:
        message["tool_calls"] = _tool_calls(made)
    choice = {"index": 0, "message": message, "finish_reason": made.finish_reason}
    body = _envelope(made, "chat.completion") | {"choices": [choice]}
    return body | ({"usage": write_usage(made)} if made.report_usage else {})


def write_chunks(made: Generated, question: Question) -> list[str]:
    """Write the events of a stream; usage comes only if it was asked for."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": piece} for piece in pieces(made.text)]
    if made.refusal:
        deltas.append({"refusal": made.refusal})
    for index, call in enumerate(_tool_calls(made)):
        function = call["function"]
        head = call | {"index": index, "function": function | {"arguments": ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in pieces(function["arguments"])
        ]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": d, "finish_reason": None} for d in deltas
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": made.finish_reason})
    envelope = _envelope(made, "chat.completion.chunk")
    events: list[dict[str, Any]] = [envelope | {"choices": [c], "usage": None} for c in choices]
    if question.stream_usage and made.report_usage:
        events.append(envelope | {"choices": [], "usage": write_usage(made)})
    return [f"data: {write_json(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]


def _tool_calls(made: Generated) -> list[dict[str, Any]]:
    return [
        {
            "id": use.id,
            "type": "function",
            "function": {"name": use.name, "arguments": write_json(use.arguments)},
        }
        for use in made.tool_uses
    ]


def _envelope(made: Generated, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{made.request_id}",
        "object": kind,
        "created": CREATED,
        "model": made.model,
    }


def write_usage(made: Generated) -> dict[str, Any]:
    """Write usage: `prompt_tokens` and `completion_tokens` hold their details."""
    usage = made.usage
    written: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.cache_write_tokens:
        written["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write_tokens
    if made.cost_usd is not None:
        written["cost"] = float(made.cost_usd)
    return written


def pieces(text: str, words: int = 4) -> list[str]:
    """Split a text into the pieces of a stream; joined they are the text."""
    parts = text.split(" ")
    groups = [" ".join(parts[i : i + words]) for i in range(0, len(parts), words)]
    return [g if i == 0 else f" {g}" for i, g in enumerate(groups) if text]


def read_inputs(body: Body) -> list[str]:
    """Read the texts of an embeddings request."""
    given: Any = body["input"]
    return [given] if isinstance(given, str) else [str(text) for text in given]


def write_embeddings(made: Generated, body: Body, texts: list[str]) -> dict[str, Any]:
    """Write one vector per text: hashed words, so that texts with common words are near."""
    size = int(body.get("dimensions") or 1536)
    encode = _packed if body.get("encoding_format") == "base64" else list[float]
    data = [
        {"object": "embedding", "index": i, "embedding": encode(_vector(text, size))}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": made.usage.input_tokens, "total_tokens": made.usage.input_tokens}
    return {"object": "list", "model": made.model, "data": data, "usage": usage}


def embedding_usage(texts: list[str]) -> Usage:
    """Count the tokens of an embeddings request."""
    return Usage(input_tokens=sum(count_tokens(text) for text in texts))


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _vector(text: str, size: int) -> list[float]:
    vector = [0.0] * size
    for word in text.lower().split() or [text]:
        vector[zlib.crc32(word.encode()) % size] += 1.0
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def write_error(status: int, code: str) -> dict[str, Any]:
    """Write an error body."""
    codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    reason = code or codes.get(status, "")
    message = f"The fake answers {status}{f' ({reason})' if reason else ''}."
    return {"error": {"message": message, "type": kind, "param": None, "code": reason or None}}


def call_id(request_id: str, index: int) -> str:
    """Return the id of a tool call, in OpenAI's form."""
    return "call_" + hashlib.sha256(f"{request_id}/{index}".encode()).hexdigest()[:24]
