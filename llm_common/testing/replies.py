"""From a recorded request and a scripted item to the bytes of a reply; nothing is sent here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..types import Usage
from . import extractive, openai_format
from .corpus import Find
from .endpoints import KEYLESS, ChatFormat, Endpoint, SearchFormat
from .invoice import InvoiceLine, PriceList
from .question import Generated, Question, ToolUse, count_tokens
from .records import RecordedRequest
from .script import Answer, Fault, Item

T = TypeVar("T")
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream"
HTML = b"<!doctype html><html><head><title>Just a moment</title></head><body>Wait.</body></html>"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes over the wire, and what it costs.

    Attributes:
        chunks: the body, in the pieces in which it is sent.
        stop_after: close the connection after so many chunks; None sends them all.
        silence_s: seconds of silence before the connection does anything at all.
        latency_s: seconds before the first byte; None is the server's own.
    """

    status: int = 200
    content_type: str = JSON_TYPE
    chunks: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_after: int | None = None
    silence_s: float = 0
    latency_s: float | None = None
    charge: InvoiceLine | None = None


@dataclass(frozen=True, slots=True)
class Brain:
    """What answers draw on: the search, and the prices."""

    find: Find
    prices: PriceList


def reply_to(
    request: RecordedRequest, endpoint: Endpoint, item: Item | None, brain: Brain
) -> Reply:
    """Return the reply to one request."""
    if not request.has_key and endpoint.provider not in KEYLESS:
        return _error(endpoint, Fault.status(401))
    if not isinstance(request.body, dict):
        return _error(endpoint, Fault.status(400))
    fault = item if isinstance(item, Fault) else None
    if fault and fault.kind == "status":
        return _error(endpoint, fault)
    if fault and fault.kind == "html":
        return Reply(content_type="text/html", chunks=[HTML], latency_s=fault.latency_s)
    answer = item if isinstance(item, Answer) else Answer()
    try:
        reply = _good(request, endpoint, answer, brain, empty=bool(fault and fault.kind == "empty"))
    except MalformedRequestError:
        return _error(endpoint, Fault.status(400, "malformed_request"))
    reply = replace(reply, latency_s=item.latency_s if item else None)
    return _spoil(reply, fault) if fault else reply


class MalformedRequestError(Exception):
    """The body lacks what the endpoint needs: a 400 to the client, not a fault of the server."""


def _read(reader: Callable[[Mapping[str, Any]], T], request: RecordedRequest) -> T:
    try:
        return reader(request.body)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedRequestError from error


def _error(endpoint: Endpoint, fault: Fault) -> Reply:
    headers: dict[str, str] = {}
    if fault.retry_after_s is not None:
        headers["retry-after"] = f"{fault.retry_after_s:g}"
    body = endpoint.write_error(fault.http_status, fault.code)
    return Reply(fault.http_status, JSON_TYPE, [_encode(body)], headers, latency_s=fault.latency_s)


def _spoil(reply: Reply, fault: Fault) -> Reply:
    match fault.kind:
        case "timeout":
            return replace(reply, silence_s=fault.seconds, stop_after=0)
        case "disconnect":
            chunks = _halves(reply.chunks) if reply.content_type == JSON_TYPE else reply.chunks
            return replace(reply, chunks=chunks, stop_after=fault.after_chunks)
        case "malformed_json" if reply.content_type == JSON_TYPE:
            return replace(reply, chunks=_halves(reply.chunks)[:1])
        case "malformed_json":
            middle = len(reply.chunks) // 2
            broken = reply.chunks[middle].rstrip()[:-5] + b"\n\n"
            return replace(reply, chunks=[*reply.chunks[:middle], broken])
        case _:
            return reply


def _halves(chunks: Sequence[bytes]) -> list[bytes]:
    whole = b"".join(chunks)
    return [whole[: len(whole) // 2], whole[len(whole) // 2 :]]


def _good(
    request: RecordedRequest, endpoint: Endpoint, answer: Answer, brain: Brain, *, empty: bool
) -> Reply:
    if isinstance(endpoint.format, ChatFormat):
        return _chat(request, endpoint.format, answer, brain, empty=empty)
    if isinstance(endpoint.format, SearchFormat):
        return _search(request, endpoint.format, answer, brain, empty=empty)
    return _embeddings(request, answer, brain, empty=empty)


def _chat(
    request: RecordedRequest, form: ChatFormat, answer: Answer, brain: Brain, *, empty: bool
) -> Reply:
    question = _read(form.read, request)
    made = generate(request, question, answer)
    line = _line(request, made.model, made.usage, brain)
    if request.provider == "openrouter":
        made = replace(made, cost_usd=line.amount)
    if empty:
        made = replace(made, text="", tool_uses=(), refusal=None, finish_reason="stop")
    if not question.stream:
        return Reply(chunks=[_encode(form.write(made))], charge=line)
    events = [event.encode() for event in form.write_chunks(made, question)]
    return Reply(content_type=STREAM_TYPE, chunks=events, charge=line)


def generate(request: RecordedRequest, question: Question, answer: Answer) -> Generated:
    """Make the answer: scripted as far as it goes, else the default model's."""
    draft = _draft(question, answer)
    uses = tuple(
        ToolUse(openai_format.call_id(request.id, index), name, arguments)
        for index, (name, arguments) in enumerate(_calls(draft, answer))
    )
    said = [draft.text, answer.refusal or "", *(extractive.write_json(u.arguments) for u in uses)]
    output = sum(count_tokens(text) for text in said)
    reason = "length" if draft.cut else "tool_calls" if uses else "stop"
    if answer.refusal:
        reason = "content_filter"
    own = extractive.MODEL if request.provider == "offline" else request.model
    return Generated(
        request_id=request.id,
        model=answer.model or own,
        text=draft.text,
        usage=answer.usage or Usage(input_tokens=question.tokens, output_tokens=output),
        tool_uses=uses,
        finish_reason=answer.finish_reason or reason,
        refusal=answer.refusal,
        report_usage=answer.report_usage,
    )


def _draft(question: Question, answer: Answer) -> extractive.Draft:
    if answer.text is not None or answer.tool_calls or answer.refusal:
        return extractive.Draft(text=answer.text or "")
    if answer.json is None:
        return extractive.answer(question)
    tool = extractive.chosen_tool(question)
    if tool:
        return extractive.Draft(tool=tool.name, arguments=answer.json)
    return extractive.Draft(text=extractive.write_json(answer.json))


def _calls(draft: extractive.Draft, answer: Answer) -> list[tuple[str, Mapping[str, Any]]]:
    calls = list(answer.tool_calls)
    if draft.tool is not None and draft.arguments is not None:
        calls.append((draft.tool, draft.arguments))
    return calls


def _search(
    request: RecordedRequest, form: SearchFormat, answer: Answer, brain: Brain, *, empty: bool
) -> Reply:
    query = _read(form.read, request)
    hits = [] if empty else brain.find(query)
    line = _line(request, form.product, Usage(), brain)
    body = form.write(hits, request.id, line.amount) if answer.json is None else answer.json
    return Reply(chunks=[_encode(body)], charge=line)


def _embeddings(request: RecordedRequest, answer: Answer, brain: Brain, *, empty: bool) -> Reply:
    texts = _read(openai_format.read_inputs, request)
    usage = answer.usage or openai_format.embedding_usage(texts)
    made = Generated(request.id, answer.model or request.model, "", usage)
    shown = [] if empty else texts
    body = answer.json or openai_format.write_embeddings(made, request.body, shown)
    return Reply(chunks=[_encode(body)], charge=_line(request, made.model, usage, brain))


def _line(request: RecordedRequest, model: str, usage: Usage, brain: Brain) -> InvoiceLine:
    price = brain.prices.find(request.provider, model, request.model)
    amount = price.charge(usage) if price else None
    return InvoiceLine(request.id, request.provider, model, usage, amount)


def _encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
