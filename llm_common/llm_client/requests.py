"""From what a caller says to a request and the most that it can cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..calls import Target
from ..cost_tracker.bounds import TokenBound, embedding_bound, token_bound
from ..errors import InvalidInputError
from ..pricing import Price, price_of, upper_bound_nano
from ..providers import ChatRequest
from ..routing import Deployment
from ..types import Messages
from .options import CallOptions


def check_messages(messages: Messages) -> None:
    """Refuse what is no conversation.

    Raises:
        InvalidInputError: it is empty, no list, or a message has no role.
    """
    if isinstance(messages, (str, bytes)) or not messages:
        raise InvalidInputError("messages must be a list of {'role': …, 'content': …}, not empty")
    for number, message in enumerate(messages):
        if "role" not in message:
            raise InvalidInputError(f"messages[{number}] has no 'role'")


def check_texts(texts: Sequence[object]) -> None:
    """Refuse what can't be embedded.

    Raises:
        InvalidInputError: it is empty, or something else than a list of texts.
    """
    if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidInputError("texts must be a list of strings, not empty")


def check_ttl(ttl_s: float | None) -> None:
    """Refuse what is no time to live.

    Raises:
        InvalidInputError: it is not a number of seconds above 0.
    """
    if ttl_s is not None and not 0 < ttl_s < math.inf:
        raise InvalidInputError(f"cache_ttl_s must be seconds, more than 0, not {ttl_s!r}")


def request_for(
    deployment: Deployment, arguments: Mapping[str, Any], options: CallOptions
) -> ChatRequest:
    """Merge what the caller said with what the schema needs."""
    spec = deployment.model
    return ChatRequest(
        messages=arguments["messages"],
        max_tokens=options.get("max_tokens") or spec.default_max_tokens,
        temperature=options.get("temperature"),
        seed=options.get("seed"),
        tools=tuple(arguments.get("tools") or options.get("tools", ())),
        tool_choice=arguments.get("tool_choice", options.get("tool_choice")),
        response_format=arguments.get("response_format"),
        extra=options.get("extra", {}),
    )


def target_for(deployment: Deployment, request: ChatRequest) -> Target:
    """Say where a request goes and the most that it can cost."""
    spec = deployment.model
    price = price_of(deployment.provider, spec.id)
    bound = token_bound(
        request.messages,
        tools=request.tools,
        response_format=request.response_format,
        max_tokens=request.max_tokens,
        extra=request.extra,
        model=spec.id,
    )
    others = (price_of(deployment.provider, model) for model in bound.models)
    return _target(deployment, price, others, bound)


def embed_target(deployment: Deployment, texts: Sequence[str]) -> Target:
    """Say where texts go to become vectors and the most that it can cost."""
    spec = deployment.model
    price = price_of(deployment.provider, spec.id)
    return _target(deployment, price, (), embedding_bound(texts))


def _target(
    deployment: Deployment, price: Price | None, others: Iterable[Price | None], bound: TokenBound
) -> Target:
    ceiling = deployment.ceiling if price is None else None
    return Target(
        deployment.provider,
        deployment.model.id,
        deployment.key_alias,
        price,
        _bound_nano([price or ceiling, *others], bound),
        deployment.lane,
        bound.input_tokens + bound.output_tokens,
        ceiling,
    )


def _bound_nano(prices: Sequence[Price | None], bound: TokenBound) -> int | None:
    """Price a bound by the dearest model that may serve it; None when one's price is unknown."""
    nanos = [
        price
        and upper_bound_nano(
            price, bound.input_tokens, bound.output_tokens, keeps_an_hour=bound.keeps_an_hour
        )
        for price in prices
    ]
    known = [nano for nano in nanos if nano is not None]
    return max(known) + bound.fees_nano if len(known) == len(nanos) else None
