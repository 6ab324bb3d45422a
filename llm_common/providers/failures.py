"""What went wrong, by type: HTTP statuses and error bodies become `CallError`s.

The provider's own words decide the type and are then dropped: they may quote the prompt.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..errors import (
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
from ..retry_after import number, retry_after_s
from ..routing import Deployment
from .base import Reply
from .usage import table, tables

_REASONS: dict[type[CallError], str] = {
    RateLimitedError: "rate limited; wait, or use another key",
    QuotaExhaustedError: "the account's credit or quota is used up",
    ProviderUnavailableError: "the provider is down or can't be reached",
    ProviderTimeoutError: "no answer in time",
    BrokenResponseError: "the answer broke off or is malformed",
    EmptyResponseError: "the answer is empty",
    AuthenticationError: "the key is refused",
    BadRequestError: "the provider rejects the request as it is",
    ContextLengthError: "more input than the model takes; shorten it",
    ModelNotFoundError: "the provider has no such model for this key",
    RefusedError: "the model or the provider's filter declined",
}

_BY_STATUS: dict[int, type[CallError]] = {
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: AuthenticationError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    413: ContextLengthError,
    429: RateLimitedError,
    498: ProviderUnavailableError,  # Groq: flex capacity exceeded
}

_BY_CODE: dict[str, type[CallError]] = {
    "context_length_exceeded": ContextLengthError,
    "string_above_max_length": ContextLengthError,
    "content_filter": RefusedError,
    "content_policy_violation": RefusedError,
    "invalid_prompt": RefusedError,
    "insufficient_quota": QuotaExhaustedError,
    "model_not_found": ModelNotFoundError,
    "API_KEY_INVALID": AuthenticationError,  # Gemini, with status 400
    "tool_use_failed": BrokenResponseError,  # Groq: the model wrote a malformed call
    # Z.ai's business codes, which may come with HTTP 200.
    "1000": AuthenticationError,
    "1001": AuthenticationError,
    "1002": AuthenticationError,
    "1003": AuthenticationError,
    "1004": AuthenticationError,
    "1113": QuotaExhaustedError,
    "1211": ModelNotFoundError,
    "1234": ProviderUnavailableError,
    "1261": ContextLengthError,
    "1301": RefusedError,
    "1302": RateLimitedError,
    "1303": RateLimitedError,
    "1304": QuotaExhaustedError,
    "1305": RateLimitedError,
    "1308": QuotaExhaustedError,
}

_TOO_LONG = re.compile(
    r"context.{0,3}length|context window|maximum context|max.{0,9} prompt length"
    r"|prompt is too long|input token count.{0,40}exceeds|too many (input )?tokens"
    r"|reduce the length of",
    re.IGNORECASE,
)
_MODERATED = re.compile(r"flagged|moderation|content.{0,3}(policy|filter)", re.IGNORECASE)
_NO_CREDIT = re.compile(
    r"insufficient (balance|credits?|quota)|out of credits|credit balance is too low",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error answer says, reduced to what the type depends on."""

    code: str = ""
    message: str = ""
    status: int | None = None
    retry_after_s: float | None = None


def read_error(body: Any) -> Refusal:
    """Read an error body: OpenAI's, OpenRouter's, Z.ai's, Anthropic's and Gemini's shapes alike."""
    outer = table(body)
    error = outer.get("error", outer)
    if isinstance(error, str):
        return Refusal(message=error)
    named = table(error)
    code = str(named.get("code") or named.get("type") or "")
    if "flagged_input" in table(named.get("metadata")):
        code = "content_filter"
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else None
    # Gemini's reason and delay.
    details = tables(named.get("details"))
    reasons = (str(each.get("reason")) for each in details)
    code = next((reason for reason in reasons if reason in _BY_CODE), code)
    delays = (number(str(each.get("retryDelay")).removesuffix("s")) for each in details)
    delay_s = next((delay for delay in delays if delay is not None), None)
    return Refusal(code, str(named.get("message") or ""), status, delay_s)


def error_type(status: int, refusal: Refusal) -> type[CallError]:
    """Choose the error's type from the status and what the body says. Pure."""
    if refusal.code in _BY_CODE:
        return _BY_CODE[refusal.code]
    if status in (400, 429) and _NO_CREDIT.search(refusal.message):
        return QuotaExhaustedError
    if status in (400, 422) and _TOO_LONG.search(refusal.message):
        return ContextLengthError
    if status in (400, 403) and _MODERATED.search(refusal.message):
        return RefusedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ProviderUnavailableError if status >= 500 else BadRequestError


def from_status(
    deployment: Deployment, status: int, headers: Mapping[str, str], body: Any
) -> CallError:
    """Make the error for an answer with an error status, or a 200 that holds an error."""
    refusal = read_error(body)
    # A 200 that holds an error may name the status in its body, or only a code of its own.
    effective = refusal.status or (status if status >= 400 else 500)
    wait_s = retry_after_s(headers, time.time())
    error = failure(
        error_type(effective, refusal),
        deployment,
        status=status,
        retry_after_s=refusal.retry_after_s if wait_s is None else wait_s,
    )
    error.billed = False
    return error


def refused(
    deployment: Deployment, status: int, headers: Mapping[str, str], content: bytes
) -> CallError:
    """Make the error for an answer with an error status, whatever its body is."""
    try:
        body = decode(deployment, content)
    except BrokenResponseError:
        body = None
    return from_status(deployment, status, headers, body)


def failure(
    kind: type[CallError],
    deployment: Deployment,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
) -> CallError:
    """Make a `CallError` whose message names the deployment and nothing that was said."""
    answered = "" if status is None else f" (status {status})"
    return kind(
        f"{deployment.alias}: {_REASONS[kind]}{answered}",
        provider=deployment.provider,
        model=deployment.model.id,
        status=status,
        retry_after_s=retry_after_s,
    )


def fault(reply: Reply, deployment: Deployment) -> CallError | None:
    """Return what is wrong with an answer that came with HTTP 200, or None. Pure.

    Settle the reply's usage first: the provider charges for these answers too.
    """
    if reply.finish_reason == "content_filter" or reply.refusal:
        return failure(RefusedError, deployment, status=200)
    if not reply.text.strip() and not reply.tool_calls:
        return failure(EmptyResponseError, deployment, status=200)
    return None


def decode(deployment: Deployment, content: bytes) -> Any:
    """Decode a JSON body, numbers with a point as `Decimal`.

    Raises:
        BrokenResponseError: it is not JSON.
    """
    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        # `from None`: the decoder's error holds the whole answer.
        raise failure(BrokenResponseError, deployment, status=200) from None
