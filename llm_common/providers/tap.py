"""What Anthropic and Gemini themselves say an answer used, read off the wire beside litellm.

litellm recounts: it estimates thinking that was not counted and streams that broke off. The
ledger takes the provider's own figures.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..types import Usage
from .sse import Splitter
from .usage import table, usage_of_anthropic, usage_of_gemini

Fold = Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Mapping[str, Any], bool]]
"""(raw usage so far, next body or event) -> (raw usage, whether it is the last word)."""


class Tap:
    """Listens to one answer.

    Attributes:
        usage: of the whole answer; None until the provider has named it.
        sent: the request has left.
        refused: status, headers and body of an answer with an error status.
        hang_up: closes the connection of a stream; harmless after its end.
    """

    def __init__(self, provider: str) -> None:
        self.sent = False
        self.usage: Usage | None = None
        self.refused: tuple[int, Mapping[str, str], bytes] | None = None
        self.hang_up: Callable[[], Awaitable[None]] = _nothing
        self._fold, self._read = TAPPED[provider]
        self._raw: Mapping[str, Any] = {}
        self._splitter = Splitter()

    def hear(self, body: bytes) -> None:
        """Take a whole body, or the data of one event. What is no JSON says nothing."""
        try:
            said = table(json.loads(body))
        except ValueError:
            return
        self._raw, final = self._fold(self._raw, said)
        if final:
            self.usage = self._read(self._raw)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of a stream of events."""
        for event in self._splitter.feed(chunk):
            self.hear(event)


async def _nothing() -> None:
    """There is no stream yet."""


def _anthropic(raw: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """A stream begins with the input's counts and ends with totals, which may leave some out."""
    named = table(said.get("usage") or table(said.get("message")).get("usage"))
    counted = {key: value for key, value in named.items() if value is not None}
    return {**raw, **counted}, bool(said.get("usage"))


def _gemini(raw: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Every chunk counts all that came so far; the last one says why it is the last."""
    choice = table(next(iter(said.get("candidates") or ()), None))
    final = bool(choice.get("finishReason") or said.get("promptFeedback"))
    return said.get("usageMetadata") or raw, final


TAPPED: Mapping[str, tuple[Fold, Callable[[Any], Usage | None]]] = {
    "anthropic": (_anthropic, usage_of_anthropic),
    "gemini": (_gemini, usage_of_gemini),
}
"""Providers whose litellm code takes our HTTP handler; the rest have clients of their own."""
