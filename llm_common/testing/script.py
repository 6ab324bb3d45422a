"""Scripted answers and faults, and the queue that hands them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..types import Usage
from .records import RecordedRequest

FaultKind = Literal["status", "timeout", "malformed_json", "empty", "disconnect", "html"]
Match = Callable[[RecordedRequest], bool] | str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A scripted answer; what is left out comes from the default model.

    Attributes:
        text: the assistant's words.
        json: the structured answer: the arguments of the tool that the request asks for, else
            the text. For a search or an embedding it is the whole body.
        tool_calls: pairs of tool name and arguments.
        usage: what the provider reports and charges, in the library's terms.
        model: the model that served it.
        finish_reason: stop, length, tool_calls or content_filter.
        refusal: the words of a model that declines.
        report_usage: False leaves usage out of the answer; the invoice has it all the same.
        latency_s: seconds before the first byte, in place of the server's.
    """

    text: str | None = None
    json: Any = None
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    report_usage: bool = True
    latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong; made by the named constructors."""

    kind: FaultKind
    http_status: int = 200
    code: str = ""
    seconds: float = 0
    retry_after_s: float | None = None
    after_chunks: int = 0
    latency_s: float | None = None

    @classmethod
    def rate_limit(cls, retry_after_s: float | None = None) -> Fault:
        """429, with `Retry-After` if seconds are given. Charges nothing."""
        return cls("status", 429, code="rate_limit_exceeded", retry_after_s=retry_after_s)

    @classmethod
    def status(cls, status: int, code: str = "", *, latency_s: float | None = None) -> Fault:
        """Any HTTP error; `code` is the machine-readable reason in its body. Charges nothing."""
        return cls("status", status, code=code, latency_s=latency_s)

    @classmethod
    def context_length(cls) -> Fault:
        """400 because the input is longer than the model takes. Charges nothing."""
        return cls("status", 400, code="context_length_exceeded")

    @classmethod
    def timeout(cls, seconds: float) -> Fault:
        """Do the work, say nothing for `seconds`, then close. Charges the unseen answer."""
        return cls("timeout", seconds=seconds)

    @classmethod
    def malformed_json(cls) -> Fault:
        """200 with half of the JSON, or a stream with a broken chunk. Charges the answer."""
        return cls("malformed_json")

    @classmethod
    def empty(cls) -> Fault:
        """200 with nothing in it, as Z.ai answers when a quota is used up. Charges the answer."""
        return cls("empty")

    @classmethod
    def disconnect(cls, after_chunks: int = 0) -> Fault:
        """Close after so many chunks of a stream; a JSON body breaks off in the middle, or, at 0,
        is never begun. Charges the answer.
        """
        return cls("disconnect", after_chunks=after_chunks)

    @classmethod
    def html(cls) -> Fault:
        """200 with a web page in place of JSON, as a gateway answers. Charges nothing."""
        return cls("html")

    @property
    def charged(self) -> bool:
        """Whether the provider had done the work before things went wrong."""
        return self.kind not in ("status", "html")


Item = Answer | Fault


@dataclass(slots=True)
class Script:
    """Items in order, each for the first request that it matches."""

    _queue: list[tuple[Match, Item]] = field(default_factory=list[tuple[Match, Item]])

    def add(self, items: Sequence[Item], match: Match) -> None:
        """Append items that only requests matching `match` consume."""
        self._queue.extend((match, item) for item in items)

    def take(self, request: RecordedRequest) -> Item | None:
        """Remove and return the first item that matches, or None."""
        for index, (match, item) in enumerate(self._queue):
            if matches(match, request):
                del self._queue[index]
                return item
        return None

    def __len__(self) -> int:
        return len(self._queue)


def matches(match: Match, request: RecordedRequest) -> bool:
    """Whether a request fits a predicate, or a part of its path or model."""
    if match is None:
        return True
    if isinstance(match, str):
        return match in request.path or match in request.model
    return match(request)
