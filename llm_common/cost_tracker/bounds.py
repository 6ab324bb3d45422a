"""The most tokens that a request can be billed for, without a tokenizer.

No tokenizer makes more tokens than its text has UTF-8 bytes. What a provider adds by itself, and
what is not text, has a declared cap here. The caps hold for every recorded exchange of the test
material; a provider may still exceed them, and such a call is recorded in full and flagged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..types import Messages

# What chat templates wrap around a request and around each message.
PER_REQUEST = 32
PER_MESSAGE = 16

# The prompt that explains tools or a schema: Anthropic documents 346 tokens, and 558 to 711
# tokens were billed for 370 bytes at Anthropic and Groq.
TOOLS_PROMPT = 800
PER_TOOL = 64
SCHEMA_PROMPT = 400

# xAI puts about 680 tokens of its own before every conversation.
HIDDEN_PROMPT = {"grok": 800}

# Anthropic's largest image is 4,784 tokens, OpenAI's (tiles) 1,445; gpt-4o-mini inflates its
# tiles: 2,833 + 8 x 5,667.
IMAGE = 6_000
IMAGE_AT = {"gpt-4o-mini": 48_200}

# A document is at worst text that was compressed to a quarter, plus an image per page; speech
# and film are at least 1 kB per second and at most 300 tokens per second of film.
DOCUMENT_BASE, DOCUMENT_PER_BYTE = 8_000, 2
MEDIA_BASE, BYTES_PER_MEDIA_TOKEN = 1_000, 16

# Files that are only named: nobody here has seen them.
DOCUMENT_BY_REFERENCE = 200_000
MEDIA_BY_REFERENCE = 300_000

_KIND = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "input_audio": "media",
    "audio": "media",
    "video": "media",
    "video_url": "media",
    "file": "document",
    "input_file": "document",
    "document": "document",
    "document_url": "document",
}
_BLOBS = ("inlineData", "inline_data", "fileData", "file_data")


@dataclass(frozen=True, slots=True)
class TokenBound:
    """The most that a request can be billed for.

    Attributes:
        fees_nano: charges beside tokens, such as hosted searches, in nano-dollars.
        keeps_an_hour: input is to be cached for an hour, which costs more to write.
        models: further models that the request lets the provider use in place of, or beside,
            the one asked: price the bound by the dearest.
    """

    input_tokens: int
    output_tokens: int
    fees_nano: int = 0
    models: tuple[str, ...] = ()
    keeps_an_hour: bool = False


@dataclass(frozen=True, slots=True)
class ServerTool:
    """Declared caps of a tool that the provider runs: input per use, uses, fee per use."""

    tokens: int
    uses: int = 1
    fee_nano: int = 0


# Recorded at most: search 12,251 input tokens for one use, fetch 7,262, code 9,339, URL context
# 4,642, MCP 3,443. Documented: $10 to $50 per 1,000 searches, $0.05 per hour of a container, and
# 125,000 tokens for a large fetched file.
SERVER_TOOLS = {
    "web_search": ServerTool(20_000, uses=5, fee_nano=50_000_000),
    "googleSearch": ServerTool(20_000, uses=5, fee_nano=50_000_000),
    "web_fetch": ServerTool(125_000),
    "urlContext": ServerTool(125_000),
    "code_execution": ServerTool(30_000, fee_nano=50_000_000),
    "codeExecution": ServerTool(30_000),
    "fileSearch": ServerTool(30_000),
    "tool_search": ServerTool(10_000),
    "advisor": ServerTool(10_000),
    "mcp": ServerTool(30_000),
}
OTHER_SERVER_TOOL = ServerTool(10_000)
ADVISOR_OUTPUT = 8_192


def token_bound(
    messages: Messages,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    response_format: Any = None,
    max_tokens: int,
    extra: Mapping[str, Any] | None = None,
    model: str = "",
) -> TokenBound:
    """Bound what a request can be billed for. Pure, and quick enough for every request.

    Args:
        messages: in OpenAI's shape; Anthropic's and Gemini's parts are understood too.
        max_tokens: as sent.
        extra: arguments that are passed to the provider as they are.
        model: the provider's id; caps that only some models need are applied by it. Unnamed
            means any model.
    """
    extra = extra or {}
    hosted = [*_server_tools(tools), *_server_arguments(extra)]
    advisors = [table for name, table in hosted if name == "advisor"]
    models = _models(extra, advisors)
    names = (model, *models)
    prompt = (
        PER_REQUEST
        + sum(PER_MESSAGE + _content(message, names) for message in messages)
        + _explained(tools, TOOLS_PROMPT, PER_TOOL)
        + _explained(response_format, SCHEMA_PROMPT, 0)
        + sum(_json_bytes(value) for value in extra.values())
        + max((cap for name, cap in HIDDEN_PROMPT.items() if _is_any(name, names)), default=0)
    )
    answers = max(int(extra.get("n") or 1), 1)
    return TokenBound(
        input_tokens=prompt * (1 + len(advisors)) + sum(_tokens(*tool) for tool in hosted),
        output_tokens=max_tokens * answers + sum(_advice(table) for table in advisors),
        fees_nano=sum(_cap(name).fee_nano * _uses(name, table) for name, table in hosted),
        models=models,
        keeps_an_hour=any(_keeps_an_hour(part) for part in (messages, tools, extra)),
    )


def embedding_bound(texts: Sequence[str]) -> TokenBound:
    """Return the most that texts can be billed for when they become vectors."""
    return TokenBound(
        input_tokens=sum(PER_MESSAGE + _content(text, ()) for text in texts), output_tokens=0
    )


def _keeps_an_hour(value: Any) -> bool:
    """Whether a cache is asked for that lasts an hour, anywhere inside."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return table.get("ttl") == "1h" or any(_keeps_an_hour(item) for item in table.values())
    if isinstance(value, list | tuple):
        return any(_keeps_an_hour(item) for item in cast("Iterable[Any]", value))
    return False


def _content(value: Any, names: Sequence[str]) -> int:
    """Tokens of a message, a part or a value inside them, at most."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        blob = _blob(table)
        if blob is not None:
            return _blob_tokens(*blob, names)
        return sum(len(str(key)) + 4 + _content(item, names) for key, item in table.items())
    if isinstance(value, Iterable):
        return sum(2 + _content(item, names) for item in cast("Iterable[Any]", value))
    return len(str(value))


def _blob(part: Mapping[str, Any]) -> tuple[str, int | None] | None:
    """Return (kind, bytes) of a part that holds no text; bytes are None for a mere reference."""
    kind = _KIND.get(str(part.get("type")))
    if kind is not None and ("source" in part or str(part["type"]) in part):
        return kind, _inline_bytes(part)
    for name in _BLOBS:
        held = part.get(name)
        if isinstance(held, Mapping):
            blob = cast("Mapping[str, Any]", held)
            mime = str(blob.get("mimeType") or blob.get("mime_type") or "")
            family = mime.split("/", 1)[0]
            return {"image": "image", "audio": "media", "video": "media"}.get(
                family, "document"
            ), _inline_bytes(blob)
    return None


def _inline_bytes(value: Any) -> int | None:
    """Length of the data inside a part, in bytes of its text form."""
    if not isinstance(value, Mapping):
        text = str(value)
        return len(text) if text.startswith("data:") else None
    table = cast("Mapping[str, Any]", value)
    if isinstance(table.get("data"), str):
        return len(table["data"])
    found = (_inline_bytes(item) for item in table.values())
    return next((size for size in found if size is not None), None)


def _blob_tokens(kind: str, size: int | None, names: Sequence[str]) -> int:
    if kind == "image":
        return max((cap for name, cap in IMAGE_AT.items() if _is_any(name, names)), default=IMAGE)
    if kind == "media":
        return MEDIA_BY_REFERENCE if size is None else MEDIA_BASE + size // BYTES_PER_MEDIA_TOKEN
    return DOCUMENT_BY_REFERENCE if size is None else DOCUMENT_BASE + DOCUMENT_PER_BYTE * size


def _is_any(name: str, models: Sequence[str]) -> bool:
    """Whether one of the models is, or may be, of this name."""
    return any(name in model for model in models) or not models[0]


def _explained(value: Any, prompt: int, each: int) -> int:
    """Bytes of tools or a schema, and of what the provider says about them."""
    if not value:
        return 0
    count = len(value) if each else 0
    return prompt + each * count + _json_bytes(value)


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="surrogatepass"))


def _server_tools(tools: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Find the tools that the provider runs: (name in `SERVER_TOOLS` or "", their arguments)."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for tool in tools:
        kind = str(tool.get("type") or "")
        keys = [name for name in tool if name in SERVER_TOOLS]
        if keys:
            found += [(name, {}) for name in keys]
        elif kind not in ("", "function", "custom"):
            bare = kind.removeprefix("openrouter:")
            name = next((name for name in SERVER_TOOLS if bare.startswith(name)), "")
            found.append((name, {**tool, **(tool.get("parameters") or {})}))
    return found


def _server_arguments(extra: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Find what makes the provider search or call by an argument instead of a tool."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    if extra.get("web_search_options") is not None:
        found.append(("web_search", {"max_uses": 1}))
    found += [("mcp", {}) for _ in extra.get("mcp_servers") or ()]
    plugins = cast("Sequence[Mapping[str, Any]]", extra.get("plugins") or ())
    found += [("web_search" if plugin.get("id") == "web" else "", plugin) for plugin in plugins]
    return found


def _cap(name: str) -> ServerTool:
    return SERVER_TOOLS.get(name, OTHER_SERVER_TOOL)


def _uses(name: str, table: Mapping[str, Any]) -> int:
    return int(table.get("max_uses") or _cap(name).uses)


def _tokens(name: str, table: Mapping[str, Any]) -> int:
    return int(table.get("max_content_tokens") or _cap(name).tokens) * _uses(name, table)


def _advice(table: Mapping[str, Any]) -> int:
    asked = table.get("max_tokens") or table.get("max_completion_tokens")
    return int(asked or ADVISOR_OUTPUT)


def _models(extra: Mapping[str, Any], advisors: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    named = [*(extra.get("models") or ()), *(table.get("model") for table in advisors)]
    return tuple(str(model) for model in named if model)
