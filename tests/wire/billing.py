"""What recorded answers say was billed, read independently of the library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_common.types import Usage

from .replay import Exchange

NANO = 10**9


@dataclass(frozen=True)
class Billed:
    """Tokens of one model; `cost_usd` where the provider said."""

    model: str
    usage: Usage
    cost_usd: Decimal | None = None


def answered(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The answer's JSON bodies: one, or the events of a stream."""
    if "response_json" in exchange:
        yield exchange["response_json"]
        return
    for line in exchange["response_text"].splitlines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data.startswith("{"):
            yield json.loads(data)


def raw_usage(exchange: Exchange) -> dict[str, Any] | None:
    """The usage of an answer; the last word of a stream counts."""
    merged: dict[str, Any] = {}
    for body in answered(exchange):
        found = body.get("usage") or body.get("usageMetadata") or {}
        inner = (body.get("message") or {}).get("usage") if "message" in body else None
        groq = (body.get("x_groq") or {}).get("usage")
        for part in (inner, groq, found):
            merged |= {k: v for k, v in (part or {}).items() if v is not None}
    return merged or None


def requested_model(exchange: Exchange) -> str:
    named = exchange["request"].get("model")
    return named or exchange["path"].split("models/")[1].split(":")[0]


def usage_of_anthropic(raw: dict[str, Any]) -> Usage:
    cached = raw.get("cache_read_input_tokens") or 0
    written = raw.get("cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=raw["input_tokens"] + cached + written,
        output_tokens=raw["output_tokens"],
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=(raw.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        cache_write_1h_tokens=(raw.get("cache_creation") or {}).get("ephemeral_1h_input_tokens")
        or 0,
        web_searches=(raw.get("server_tool_use") or {}).get("web_search_requests") or 0,
    )


def usage_of_gemini(raw: dict[str, Any]) -> Usage:
    thoughts = raw.get("thoughtsTokenCount") or 0
    return Usage(
        input_tokens=(raw.get("promptTokenCount") or 0) + (raw.get("toolUsePromptTokenCount") or 0),
        output_tokens=(raw.get("candidatesTokenCount") or 0) + thoughts,
        cached_input_tokens=raw.get("cachedContentTokenCount") or 0,
        reasoning_tokens=thoughts,
    )


def usage_of_openai(raw: dict[str, Any]) -> Usage:
    inputs = raw.get("prompt_tokens_details") or {}
    outputs = raw.get("completion_tokens_details") or {}
    cached = inputs.get("cached_tokens") or raw.get("num_cached_tokens") or 0
    return Usage(
        input_tokens=raw["prompt_tokens"],
        output_tokens=raw.get("completion_tokens") or 0,
        cached_input_tokens=cached or raw.get("prompt_cache_hit_tokens") or 0,
        cache_write_tokens=inputs.get("cache_write_tokens") or 0,
        reasoning_tokens=outputs.get("reasoning_tokens") or 0,
    )


def billed(exchange: Exchange) -> list[Billed]:
    """Who billed what for an exchange; empty when the answer names no usage."""
    raw = raw_usage(exchange)
    if raw is None:
        return []
    model = requested_model(exchange)
    if exchange["api"].startswith("gemini"):
        return [Billed(model, usage_of_gemini(raw))]
    if exchange["api"] == "anthropic-messages":
        helpers = [i for i in raw.get("iterations") or [] if i["type"] == "advisor_message"]
        return [
            Billed(model, usage_of_anthropic(raw)),
            *(Billed(helper["model"], usage_of_anthropic(helper)) for helper in helpers),
        ]
    cost = raw.get("cost")
    return [Billed(model, usage_of_openai(raw), None if cost is None else Decimal(str(cost)))]


def searches(exchange: Exchange) -> int:
    """Hosted searches that were made, where the answer counts them."""
    raw = raw_usage(exchange) or {}
    tools = raw.get("server_tool_use") or raw.get("server_tool_use_details") or {}
    return tools.get("web_search_requests") or 0
