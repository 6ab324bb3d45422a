"""Shared values: token usage, messages, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Literal, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict, Field

JSON = Any
"""A value that `json` can write. Not spelled out: recursive aliases slow every checker down."""

Message = Mapping[str, Any]
"""One chat message in OpenAI's shape: `role`, `content` and what goes with them."""

Messages = Sequence[Message]

T = TypeVar("T")

Fault = Literal["none", "input", "site", "provider", "budget", "ours"]
"""Whose doing an outcome was."""


class Aliases(TypedDict, total=False):
    """The other names of the argument `db`, for hosts that call it so."""

    db_client: Any
    supabase_client: Any


class Where(TypedDict, total=False):
    """Where rows go; `db`, `db_client` and `supabase_client` are one argument by three names.

    A Postgres URL, a Supabase client, a `Database` or ``"embedded"``; absent means `DATABASE_URL`,
    then `SUPABASE_URL` with a service key. `project` labels the rows.
    """

    db: Any
    db_client: Any
    supabase_client: Any
    project: str | None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What one key may do; None means as much as it likes.

    Attributes:
        rpm: requests per minute.
        tpm: tokens per minute, input and output.
        max_concurrent: requests in flight.
    """

    rpm: int | None = None
    tpm: int | None = None
    max_concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """A deployment as cooldowns, circuits and rate limits know it.

    Attributes:
        id: hash of endpoint, key and model, the same in every process; the key can't be read
            from it.
        group: the model at its provider; lanes of one group differ only by their key.
        label: for people, such as ``openai/gpt-4o OPENAI_API_KEY_2``; never the key.
        context_tokens: what the model takes; 0 when that is not known.
        meters: what is metered, by id: the key at its provider, and the key with this model.
    """

    id: str
    group: str
    label: str
    context_tokens: int = 0
    meters: tuple[tuple[str, RateLimits], ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a lane stands at a moment.

    Attributes:
        blocked_s: seconds that it is to be left alone: cooling down, or its circuit is open.
        limited_s: seconds until its rate limits have room.
        load: the less, the sooner it is its turn among the lanes of its group.
        down: it is left alone because its circuit is open.
    """

    blocked_s: float = 0.0
    limited_s: float = 0.0
    load: tuple[float, ...] = ()
    down: bool = False


class Frozen(BaseModel):
    """Base of the shared models: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Usage(Frozen):
    """Tokens of one answer, meaning the same for every provider.

    `input_tokens` is all input: cached and cache-write tokens are parts of it.
    `output_tokens` is all output: reasoning is a part of it.

    Attributes:
        cache_write_1h_tokens: part of `cache_write_tokens` that is kept for an hour, not minutes.
        web_searches: searches by the provider's own tool, where it bills them one by one.
        helpers: what other models used that the answering one consulted; not in the sums above.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    helpers: tuple[HelperUsage, ...] = ()

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Add two usages, partition by partition."""
        return Usage(**{f: getattr(self, f) + getattr(other, f) for f in Usage.model_fields})


class HelperUsage(Frozen):
    """Tokens of a model that another one consulted."""

    model: str
    usage: Usage


class ToolCall(Frozen):
    """A call that the model asks for; `arguments` is the JSON text it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call of a streamed answer.

    Attributes:
        index: which call of the answer, from 0.
        id: of the call; only with its first piece, as is `name`.
        arguments: the next characters of the JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer: text, reasoning or a part of a tool call, one of the three."""

    text: str = ""
    reasoning: str = ""
    tool_call: ToolCallDelta | None = None


class LLMResponse(Frozen, Generic[T]):
    """What one operation came to.

    Attributes:
        text: the answer's text; empty when the model only called tools.
        parsed: the validated `response_model`, or None.
        message: the assistant's message in OpenAI's shape: append it to the conversation before
            the results of its tool calls.
        finish_reason: stop, length, tool_calls or content_filter.
        usage: tokens of the attempt that answered.
        cost_usd: USD of all attempts of the operation; None when a price is unknown.
        cost_source: provider, prices, litellm, cache, or None (see `pricing.Cost`).
        requested_model: the model as the caller named it.
        model: the model that answered, as the provider named it.
        deployment: alias of model, endpoint and key; never the key.
        attempts: requests sent, reasks included.
        latency_ms: milliseconds from the first reservation to the answer.
        operation_id: the ledger's rows for this answer carry it.
        cached: it was in the response cache: no request was sent. `usage` is that of the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    text: str
    parsed: T | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    message: Message = Field(default_factory=dict[str, Any])
    finish_reason: str = "stop"
    usage: Usage = Usage()
    cost_usd: Decimal | None = None
    cost_source: str | None = None
    provider: str = ""
    requested_model: str = ""
    model: str = ""
    deployment: str = ""
    attempts: int = 1
    latency_ms: int = 0
    operation_id: str = ""
    prompt_id: str | None = None
    prompt_version: str | None = None
    prompt_hash: str | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Texts as vectors, and what that came to; see `LLMResponse` for what is not listed here.

    Attributes:
        vectors: one for each text, in the order of the texts.
    """

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage
    cost_usd: Decimal | None
    cost_source: str | None
    provider: str
    requested_model: str
    model: str
    deployment: str
    attempts: int
    latency_ms: int
    operation_id: str
