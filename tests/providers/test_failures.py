"""Errors by type: statuses, codes, words, Retry-After, and answers of no use."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.errors import (
    AuthenticationError,
    BadRequestError,
    BrokenResponseError,
    CallError,
    ContextLengthError,
    EmptyResponseError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
)
from llm_common.providers import Reply, fault
from llm_common.providers.failures import error_type, from_status, read_error
from llm_common.providers.litellm_wire import ERRORS, call_error, warm
from llm_common.providers.openai_format import reply_of
from llm_common.retry_after import retry_after_s
from llm_common.routing import load_registry, plan
from llm_common.types import ToolCall

(DEPLOYMENT,) = plan(load_registry(), provider="openai", model="gpt-4o", api_key="sk-secret")


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, {"code": "context_length_exceeded", "message": "…"}, ContextLengthError),
        (
            400,
            {"message": "This model's maximum context length is 8192 tokens."},
            ContextLengthError,
        ),
        (400, {"message": "The input token count (9) exceeds the maximum"}, ContextLengthError),
        (400, {"message": "Please reduce the length of the messages."}, ContextLengthError),
        (413, {"message": "too large"}, ContextLengthError),
        (400, {"code": "content_policy_violation", "message": "…"}, RefusedError),
        (403, {"code": 403, "metadata": {"flagged_input": "…"}, "message": "…"}, RefusedError),
        (400, {"message": "something else"}, BadRequestError),
        (422, {"message": "something else"}, BadRequestError),
        (400, {"code": "tool_use_failed", "message": "…"}, BrokenResponseError),
        (402, {"message": "Insufficient Balance"}, QuotaExhaustedError),
        (429, {"code": "insufficient_quota", "message": "…"}, QuotaExhaustedError),
        (429, {"message": "Rate limit reached"}, RateLimitedError),
        (401, {"message": "bad key"}, AuthenticationError),
        (404, {"message": "no"}, ModelNotFoundError),
        (408, {"message": "slow"}, ProviderTimeoutError),
        (500, {"message": "…"}, ProviderUnavailableError),
        (529, {"message": "…"}, ProviderUnavailableError),
        # HTTP 200 with an error inside: OpenRouter names a status, Z.ai a code of its own.
        (200, {"code": 429, "message": "…"}, RateLimitedError),
        (200, {"code": 502, "message": "…"}, ProviderUnavailableError),
        (200, {"code": "1113", "message": "…"}, QuotaExhaustedError),
        (200, {"code": "1302", "message": "…"}, RateLimitedError),
        (200, {"code": "1211", "message": "…"}, ModelNotFoundError),
        (200, {"message": "who knows"}, ProviderUnavailableError),
    ],
)
def test_an_error_answer_has_a_type(
    status: int, error: dict[str, Any], expected: type[CallError]
) -> None:
    made = from_status(DEPLOYMENT, status, {}, {"error": error})
    assert type(made) is expected
    assert made.billed is False
    assert made.status == status


@given(st.integers(400, 599), st.text(max_size=30), st.text(max_size=30))
def test_no_words_of_the_provider_get_into_a_message(status: int, code: str, words: str) -> None:
    secret = f"<{words}sk-secret>"
    body = {"error": {"code": code, "message": secret}}
    assert secret not in str(from_status(DEPLOYMENT, status, {}, body))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["error", "code", "message", "choices"]), inner)
        ),
    ),
    st.integers(100, 599),
)
def test_any_body_can_be_read(body: Any, status: int) -> None:
    assert issubclass(error_type(status, read_error(body)), CallError)


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        (None, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": format_datetime(NOW.replace(second=30), usegmt=True)}, 30.0),
        ({"retry-after": format_datetime(NOW.replace(hour=11), usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str] | None, expected: float | None) -> None:
    assert retry_after_s(headers, NOW.timestamp()) == expected


@given(st.text())
def test_any_retry_after_is_no_time_or_a_finite_one(value: str) -> None:
    seconds = retry_after_s({"retry-after": value}, NOW.timestamp())
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("hello", None, "m"), None),
        (Reply("", None, "m", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)), None),
        (Reply("", None, "m"), EmptyResponseError),
        (Reply(" \n", None, "m"), EmptyResponseError),
        (Reply("", None, "m", finish_reason="length"), EmptyResponseError),
        (Reply("partly", None, "m", finish_reason="content_filter"), RefusedError),
        (Reply("", None, "m", refusal="I can't."), RefusedError),
    ],
)
def test_a_useless_answer_is_a_fault(reply: Reply, expected: type[CallError] | None) -> None:
    found = fault(reply, DEPLOYMENT)
    assert (type(found) if found else None) is expected
    assert found is None or (found.status, found.billed) == (200, True)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        (None, "stop"),
    ],
)
def test_finish_reasons_mean_the_same(theirs: str | None, ours: str) -> None:
    message = {"role": "assistant", "content": "x"}
    body = {"choices": [{"finish_reason": theirs, "message": message}]}
    assert reply_of(DEPLOYMENT, body, None).finish_reason == ours


@pytest.mark.parametrize("reason", ["error", "network_error"])
def test_an_answer_that_did_not_finish_is_broken(reason: str) -> None:
    body = {"choices": [{"finish_reason": reason, "message": {"content": "x"}}]}
    with pytest.raises(BrokenResponseError):
        reply_of(DEPLOYMENT, body, None)


async def test_every_exception_of_litellm_is_mapped() -> None:
    await warm()
    from litellm import exceptions

    theirs = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert theirs == set(ERRORS)


async def test_an_exception_of_anyone_else_is_mapped_too() -> None:
    made = call_error(DEPLOYMENT, KeyError("sk-secret"))
    assert type(made) is BrokenResponseError
    assert (made.billed, made.status) == (None, None)
    assert "sk-secret" not in str(made)
