"""Which paths the server answers, for whom, in which format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from . import anthropic_format, gemini_format, openai_format, search_formats
from .corpus import Hit, Query
from .question import Generated, Question

Body = Mapping[str, Any]
ErrorWriter = Callable[[int, str], dict[str, Any]]

BASES = {
    "openai": "/openai/v1",
    "openrouter": "/openrouter/api/v1",
    "groq": "/groq/openai/v1",
    "mistral": "/mistral/v1",
    "deepseek": "/deepseek",
    "zai": "/zai/api/paas/v4",
    "anthropic": "/anthropic",
    "gemini": "/gemini/v1beta",
    "serper": "/serper",
    "tavily": "/tavily",
    "brave": "/brave/res/v1",
    "exa": "/exa",
    "searxng": "/searxng",
    "offline": "/offline/v1",
}
"""Provider or engine -> what its base URL ends with, as its own public base URL does."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How a provider writes chats."""

    read: Callable[[Body], Question]
    write: Callable[[Generated], dict[str, Any]]
    write_chunks: Callable[[Generated, Question], list[str]]


@dataclass(frozen=True, slots=True)
class SearchFormat:
    """How an engine writes searches; `product` is what its price is listed under.

    Attributes:
        write: takes what was found, the request's id and what it costs, if that is known.
    """

    product: str
    read: Callable[[Body], Query]
    write: Callable[[list[Hit], str, Decimal | None], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path of one provider."""

    provider: str
    path: str
    format: ChatFormat | SearchFormat | Literal["embeddings"]
    write_error: ErrorWriter
    method: Literal["GET", "POST"] = "POST"


OPENAI = ChatFormat(
    openai_format.read_question, openai_format.write_answer, openai_format.write_chunks
)
ANTHROPIC = ChatFormat(
    anthropic_format.read_question, anthropic_format.write_answer, anthropic_format.write_chunks
)
GEMINI = ChatFormat(
    gemini_format.read_question, gemini_format.write_answer, gemini_format.write_chunks
)
GEMINI_STREAM = ChatFormat(
    gemini_format.read_streamed, gemini_format.write_answer, gemini_format.write_chunks
)
ZAI_SEARCH = SearchFormat("web_search", search_formats.read_zai, search_formats.write_zai)
OFFLINE_SEARCH = SearchFormat("search", search_formats.read_zai, search_formats.write_zai)
SERPER_SEARCH = SearchFormat("search", search_formats.read_serper, search_formats.write_serper)
TAVILY_SEARCH = SearchFormat("search", search_formats.read_tavily, search_formats.write_tavily)
BRAVE_SEARCH = SearchFormat("search", search_formats.read_brave, search_formats.write_brave)
EXA_SEARCH = SearchFormat("search", search_formats.read_exa, search_formats.write_exa)
SEARXNG_SEARCH = SearchFormat("search", search_formats.read_searxng, search_formats.write_searxng)
KEYLESS = frozenset({"searxng"})
"""Who answers without a key."""
OPENAI_LIKE = ("openai", "openrouter", "groq", "mistral", "deepseek", "zai", "offline")


def _endpoints() -> dict[str, Endpoint]:
    zai_error = search_formats.write_zai_error
    listed = [
        Endpoint("anthropic", "/v1/messages", ANTHROPIC, anthropic_format.write_error),
        Endpoint("gemini", "/models/{model}:generateContent", GEMINI, gemini_format.write_error),
        Endpoint(
            "gemini",
            "/models/{model}:streamGenerateContent",
            GEMINI_STREAM,
            gemini_format.write_error,
        ),
        Endpoint("zai", "/web_search", ZAI_SEARCH, zai_error),
        Endpoint("offline", "/web_search", OFFLINE_SEARCH, openai_format.write_error),
        Endpoint("serper", "/search", SERPER_SEARCH, search_formats.write_serper_error),
        Endpoint("tavily", "/search", TAVILY_SEARCH, search_formats.write_tavily_error),
        Endpoint("brave", "/web/search", BRAVE_SEARCH, search_formats.write_brave_error, "GET"),
        Endpoint("exa", "/search", EXA_SEARCH, search_formats.write_exa_error),
        Endpoint("searxng", "/search", SEARXNG_SEARCH, search_formats.write_searxng_error, "GET"),
    ]
    for provider in OPENAI_LIKE:
        error = zai_error if provider == "zai" else openai_format.write_error
        listed.append(Endpoint(provider, "/chat/completions", OPENAI, error))
        listed.append(Endpoint(provider, "/embeddings", "embeddings", error))
    return {BASES[e.provider] + e.path: e for e in listed}


ENDPOINTS = _endpoints()
"""Path on the server, as a route of aiohttp -> endpoint."""
