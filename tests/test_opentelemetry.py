"""Spans and metrics of every attempt, by the conventions and without a word of the prompt."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from llm_common import CostTracker, LLMClient, WebSearchClient
from llm_common.errors import BudgetExceededError, MissingExtraError, RateLimitedError
from llm_common.integrations.opentelemetry import instrument, uninstrument
from llm_common.testing import Answer, Fault, ProviderServer
from llm_common.types import Usage

SECRET = "the-words-of-the-prompt"
MESSAGES = [{"role": "user", "content": SECRET}]
USED = Usage(input_tokens=100, output_tokens=20, cached_input_tokens=30, reasoning_tokens=5)


class Seen:
    """What an exporter got."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider(metric_readers=[self._reader])

    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def points(self, name: str) -> list[tuple[dict[str, Any], float]]:
        data = self._reader.get_metrics_data()
        return [
            (dict(point.attributes), getattr(point, "sum", None) or getattr(point, "value", 0))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if metric.name == name
        ]


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    instrument(seen.tracers, seen.meters)
    yield seen
    uninstrument()
    seen.meters.shutdown()


async def test_an_answer_is_a_span_and_four_measurements(
    fake: ProviderServer, costs: CostTracker, seen: Seen
) -> None:
    fake.script(Answer(text="Kern", usage=USED, model="gpt-4o-2024-08-06"))
    response = await LLMClient("openai", model="gpt-4o", cost_tracker=costs).complete(
        MESSAGES, step="answer"
    )
    (span,) = seen.spans()
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    answered = common | {"gen_ai.response.model": "gpt-4o-2024-08-06"}
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes == answered | {
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "llm_common.usage.reasoning_tokens": 5,
        "llm_common.operation.id": response.operation_id,
        "llm_common.attempt.no": 1,
        "llm_common.attempt.kind": "first",
        "llm_common.key.alias": "OPENAI_API_KEY",
        "llm_common.requested_model": "gpt-4o",
        "llm_common.step": "answer",
        "llm_common.cost_usd": str(response.cost_usd),
        "llm_common.cost_source": "prices",
    }
    assert seen.points("gen_ai.client.token.usage") == [
        (answered | {"gen_ai.token.type": "input"}, 100),
        (answered | {"gen_ai.token.type": "output"}, 20),
    ]
    ((labels, seconds),) = seen.points("gen_ai.client.operation.duration")
    assert labels == answered
    assert 0 < seconds < 60
    ((_, cost),) = seen.points("llm_common.cost")
    assert Decimal(str(round(cost, 9))) == round(response.cost_usd or Decimal(-1), 9)


async def test_every_attempt_is_a_span_with_its_error(
    fake: ProviderServer, costs: CostTracker, seen: Seen
) -> None:
    fake.script(*[Fault.rate_limit(retry_after_s=0)] * 3)
    with pytest.raises(RateLimitedError):
        await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    spans = seen.spans()
    assert [s.attributes["llm_common.attempt.kind"] for s in spans] == ["first", "retry", "retry"]
    for span in spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RateLimitedError"
        assert not span.events
        assert SECRET not in span.to_json()
        assert "fake-key" not in span.to_json()


async def test_a_refused_call_is_counted(
    fake: ProviderServer, costs: CostTracker, seen: Seen
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd="0.000001")
    with pytest.raises(BudgetExceededError):
        await llm.chat(MESSAGES)
    assert fake.requests == []
    (span,) = seen.spans()
    assert span.status.status_code is StatusCode.ERROR
    ((labels, count),) = seen.points("llm_common.refused")
    assert (labels["error.type"], count) == ("BudgetExceededError", 1)


async def test_streams_vectors_searches_and_cancelled_calls(
    fake: ProviderServer, costs: CostTracker, seen: Seen
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    async for _ in llm.stream(MESSAGES):
        pass
    await llm.embed(["a"], "text-embedding-3-small")
    await WebSearchClient(cost_tracker=costs).search(SECRET)
    fake.script(Answer(text="late", latency_s=30))
    call = asyncio.create_task(llm.chat(MESSAGES))
    while len(fake.requests) < 4:
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    kinds = [
        (s.attributes["gen_ai.operation.name"], s.attributes.get("error.type"))
        for s in seen.spans()
    ]
    assert kinds == [
        ("chat", None),
        ("embeddings", None),
        ("web_search", None),
        ("chat", "CancelledError"),
    ]
    assert not any(SECRET in span.to_json() for span in seen.spans())


class Watching:
    """An engine that remembers which span was current when it was asked."""

    name, product, default_base_url = "zai", "web_search", "http://127.0.0.1:1"
    span: Any = None

    async def search(self, query: Any, endpoint: Any, *, timeout_s: float) -> list[Any]:
        self.span = get_current_span()
        return []


async def test_a_span_is_the_child_of_the_callers_and_current_on_the_wire(
    costs: CostTracker, seen: Seen, fake: ProviderServer
) -> None:
    engine = Watching()
    with seen.tracers.get_tracer("host").start_as_current_span("request") as outer:
        await WebSearchClient(engine=engine, cost_tracker=costs).search("Kern")
        assert get_current_span() is outer
    search, _ = seen.spans()
    assert search.parent is not None
    assert search.parent.span_id == outer.get_span_context().span_id
    assert engine.span.get_span_context() == search.get_span_context()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llm-common\[otel\]'"):
        instrument()


async def test_nothing_is_emitted_once_it_ends(
    costs: CostTracker, seen: Seen, fake: ProviderServer
) -> None:
    uninstrument()
    await LLMClient("openai", model="gpt-4o", cost_tracker=costs).chat(MESSAGES)
    assert seen.spans() == []
