"""OpenTelemetry: a span and metrics for every attempt, by the conventions for generative AI.

The names are those of the semantic conventions 1.41 (status: development); ours begin with
`llm_common`. No prompt, answer, key or error text is in them. The ledger, not a metric, says what
was spent: metrics are floats, and what is exported may be lost.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from .. import telemetry
from ..errors import BudgetError, MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from ..cost_tracker import Intent, Outcome

SCOPE = "llm_common"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a name
ERROR_TYPE = "error.type"
PROMPT_NAME = "gen_ai.prompt.name"

PROVIDERS = {
    "anthropic": "anthropic",
    "bedrock": "aws.bedrock",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
}
"""Our names of providers by the conventions'; others stay as they are."""

# The boundaries that the conventions ask for.
DURATIONS_S = [0.01 * 2**n for n in range(14)]
TOKENS = [4**n for n in range(14)]


def instrument(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Emit spans and metrics of every attempt from now on; None means the global providers.

    Raises:
        MissingExtraError: the extra ``otel`` is not installed.
    """
    try:
        emitter = _Emitter(tracer_provider, meter_provider)
    except ImportError:
        raise MissingExtraError("opentelemetry-api", "otel") from None
    telemetry.observe(emitter)


def uninstrument() -> None:
    """Emit nothing any more."""
    telemetry.observe(None)


class _Emitter:
    """Makes a span for each attempt, and holds the instruments."""

    def __init__(self, tracers: TracerProvider | None, meters: MeterProvider | None) -> None:
        from opentelemetry import metrics, trace

        self._tracer = trace.get_tracer(SCOPE, None, tracers, SCHEMA_URL)
        meter = metrics.get_meter(SCOPE, "", meters, SCHEMA_URL)
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long attempts took.",
            explicit_bucket_boundaries_advisory=DURATIONS_S,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Input and output tokens of attempts.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )
        self.cost = meter.create_counter("llm_common.cost", "USD", "What attempts cost.")
        self.unpriced = meter.create_counter(
            "llm_common.unpriced", "{attempt}", "Attempts whose cost is unknown."
        )
        self.refused = meter.create_counter(
            "llm_common.refused", "{attempt}", "Attempts that a budget refused before the wire."
        )

    def started(self, operation: str, intent: Intent) -> _Attempt:
        from opentelemetry.trace import SpanKind

        common = {
            OPERATION: operation,
            PROVIDER: PROVIDERS.get(intent.provider, intent.provider),
            REQUEST_MODEL: intent.model,
        }
        span = self._tracer.start_span(
            f"{operation} {intent.model}", kind=SpanKind.CLIENT, attributes=common | _labels(intent)
        )
        return _Attempt(self, span, common)


class _Attempt:
    """One attempt: its span until it is settled."""

    def __init__(self, emitter: _Emitter, span: Span, common: dict[str, str]) -> None:
        self._emitter = emitter
        self._span = span
        self._common = common

    def sending(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span

        # `settled` and `refused` say how it ended; an error's text may quote the prompt.
        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def refused(self, error: BaseException) -> None:
        kind = type(error).__name__
        if isinstance(error, BudgetError):
            self._emitter.refused.add(1, self._common | {ERROR_TYPE: kind})
        self._fail(kind)
        self._span.end()

    def settled(self, outcome: Outcome, cost_usd: Decimal | None, latency_s: float) -> None:
        common = self._common | ({RESPONSE_MODEL: outcome.model} if outcome.model else {})
        if outcome.status != "ok":
            common[ERROR_TYPE] = outcome.error_class or outcome.status
            self._fail(common[ERROR_TYPE])
        self._span.set_attributes(common | _usage(outcome) | _cost(outcome, cost_usd))
        self._span.end()
        self._measure(common, outcome, cost_usd, latency_s)

    def _fail(self, kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute(ERROR_TYPE, kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def _measure(
        self, common: dict[str, str], outcome: Outcome, cost_usd: Decimal | None, latency_s: float
    ) -> None:
        to = self._emitter
        to.duration.record(latency_s, common)
        if outcome.usage is not None:
            to.tokens.record(outcome.usage.input_tokens, common | {TOKEN_TYPE: "input"})
            to.tokens.record(outcome.usage.output_tokens, common | {TOKEN_TYPE: "output"})
        if cost_usd is None:
            to.unpriced.add(1, common)
        else:
            to.cost.add(float(cost_usd), common)


def _labels(intent: Intent) -> dict[str, Any]:
    """Return what finds the attempt's row in the ledger, and the labels that it has."""
    prompt_id, prompt_version, _ = intent.prompt
    named = {
        "llm_common.operation.id": intent.operation_id,
        "llm_common.attempt.no": intent.attempt_no,
        "llm_common.attempt.kind": intent.kind,
        "llm_common.key.alias": intent.key_alias,
        "llm_common.requested_model": intent.requested_model,
        "llm_common.project": intent.project,
        "llm_common.step": intent.step,
        "llm_common.task": intent.task,
        "llm_common.run.id": intent.run_id,
        "llm_common.arm": intent.arm,
        PROMPT_NAME: prompt_id,
        "llm_common.prompt.version": prompt_version,
    }
    return {name: value for name, value in named.items() if value is not None}


def _usage(outcome: Outcome) -> dict[str, int]:
    usage = outcome.usage
    if usage is None:
        return {}
    return {
        INPUT_TOKENS: usage.input_tokens,
        OUTPUT_TOKENS: usage.output_tokens,
        CACHE_READ_TOKENS: usage.cached_input_tokens,
        CACHE_WRITE_TOKENS: usage.cache_write_tokens,
        "llm_common.usage.reasoning_tokens": usage.reasoning_tokens,
    }


def _cost(outcome: Outcome, cost_usd: Decimal | None) -> dict[str, Any]:
    source = "estimated" if outcome.estimate else outcome.cost_source
    named = {"llm_common.cost_usd": cost_usd and str(cost_usd), "llm_common.cost_source": source}
    return {name: value for name, value in named.items() if value is not None}
