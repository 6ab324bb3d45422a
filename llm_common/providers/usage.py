"""Token counts of OpenAI-compatible answers, made to mean the same for every provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, cast

from ..types import HelperUsage, Usage


def usage_of(raw: Any) -> Usage | None:
    """Read the ``usage`` of an OpenAI-compatible answer; None when it names no tokens.

    OpenAI, OpenRouter, Groq, DeepSeek, Z.ai and Mistral all count cached input inside
    ``prompt_tokens`` and reasoning inside ``completion_tokens``; they differ in where the parts
    are written.
    """
    counts = table(raw)
    if "prompt_tokens" not in counts:
        return None
    input_tokens = _count(counts, "prompt_tokens")
    output_tokens = _count(counts, "completion_tokens")
    inputs = table(counts.get("prompt_tokens_details"))
    outputs = table(counts.get("completion_tokens_details"))
    cached = (
        _count(inputs, "cached_tokens")
        or _count(counts, "prompt_cache_hit_tokens")  # DeepSeek
        or _count(counts, "num_cached_tokens")  # Mistral
    )
    cached = min(cached, input_tokens)
    written = (
        _count(inputs, "cache_write_tokens")  # OpenRouter
        or _count(counts, "cache_creation_input_tokens")  # litellm, for Anthropic
    )
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=min(written, input_tokens - cached),
        reasoning_tokens=min(_count(outputs, "reasoning_tokens"), output_tokens),
    )


def usage_of_anthropic(raw: Any) -> Usage | None:
    """Read Anthropic's ``usage``, which counts cached input beside ``input_tokens``."""
    counts = table(raw)
    if "input_tokens" not in counts:
        return None
    cached = _count(counts, "cache_read_input_tokens")
    written = _count(counts, "cache_creation_input_tokens")
    output_tokens = _count(counts, "output_tokens")
    thought = _count(table(counts.get("output_tokens_details")), "thinking_tokens")
    hour = _count(table(counts.get("cache_creation")), "ephemeral_1h_input_tokens")
    return Usage(
        input_tokens=_count(counts, "input_tokens") + cached + written,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=min(thought, output_tokens),
        cache_write_1h_tokens=min(hour, written),
        web_searches=_count(table(counts.get("server_tool_use")), "web_search_requests"),
        helpers=tuple(_helpers(counts.get("iterations"))),
    )


def _helpers(iterations: Any) -> Iterator[HelperUsage]:
    """Find the turns of an advisor, which Anthropic bills beside and by the advisor's prices."""
    for turn in tables(iterations):
        usage = usage_of_anthropic(turn) if turn.get("type") == "advisor_message" else None
        if usage is not None:
            yield HelperUsage(model=str(turn.get("model")), usage=usage)


def usage_of_gemini(raw: Any) -> Usage | None:
    """Read Gemini's ``usageMetadata``: thoughts, and what its tools read, are counted beside."""
    counts = table(raw)
    if "promptTokenCount" not in counts and "totalTokenCount" not in counts:
        return None
    input_tokens = _count(counts, "promptTokenCount") + _count(counts, "toolUsePromptTokenCount")
    thought = _count(counts, "thoughtsTokenCount")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=_count(counts, "candidatesTokenCount") + thought,
        cached_input_tokens=min(_count(counts, "cachedContentTokenCount"), input_tokens),
        reasoning_tokens=thought,
    )


def cost_reported(provider: str, raw: Any) -> Decimal | None:
    """Read what the provider says it charged: OpenRouter does, in ``usage``.

    With a key of one's own there, the vendor's bill is added.
    """
    if provider != "openrouter":
        return None
    counts = table(raw)
    cost = _money(counts.get("cost"))
    if cost is None or not counts.get("is_byok"):
        return cost
    upstream = _money(table(counts.get("cost_details")).get("upstream_inference_cost"))
    return None if upstream is None else cost + upstream


def table(value: Any) -> Mapping[str, Any]:
    """Return a JSON object as it is, and anything else as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def tables(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a JSON list, and of anything else none."""
    return [table(each) for each in cast("list[Any]", value)] if isinstance(value, list) else []


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return max(int(value), 0) if isinstance(value, int | Decimal) else 0


def _money(value: Any) -> Decimal | None:
    return Decimal(value) if isinstance(value, int | Decimal) else None
