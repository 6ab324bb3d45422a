"""What went wrong, by type: HTTP statuses and error bodies become `CallError`s.

The provider's own words decide the type and are then dropped: they may quote the prompt.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, cast

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
from ..routing import Deployment
from .base import Reply

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
_NO_CREDIT = re.compile(r"insufficient (balance|credits?|quota)|out of credits", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error answer says, reduced to what the type depends on."""

    code: str = ""
    message: str = ""
    status: int | None = None


def read_error(body: Any) -> Refusal:
    """Read an error body: OpenAI's, OpenRouter's, Z.ai's and Anthropic's shapes alike."""
    if not isinstance(body, Mapping):
        return Refusal()
    table = cast("Mapping[str, Any]", body)
    error = table.get("error", table)
    if not isinstance(error, Mapping):
        return Refusal(message=str(error))
    named = cast("Mapping[str, Any]", error)
    code = str(named.get("code") or named.get("type") or "")
    metadata = named.get("metadata")
    if isinstance(metadata, Mapping) and "flagged_input" in metadata:
        code = "content_filter"
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else None
    return Refusal(code, str(named.get("message") or ""), status)


def error_type(status: int, refusal: Refusal) -> type[CallError]:
    """Choose the error's type from the status and what the body says. Pure."""
    if refusal.code in _BY_CODE:
        return _BY_CODE[refusal.code]
    if status == 429 and _NO_CREDIT.search(refusal.message):
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
    effective = refusal.status or status
    if effective < 400:  # HTTP 200 whose error names no status: the code decides, else theirs
        effective = 500
    error = failure(
        error_type(effective, refusal),
        deployment,
        f"answered {status}",
        status=status,
        retry_after_s=retry_after_s(headers, time.time()),
    )
    error.billed = False
    return error


def failure(
    kind: type[CallError],
    deployment: Deployment,
    what: str,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
) -> CallError:
    """Make a `CallError` whose message names the deployment and nothing that was said."""
    reason = (kind.__doc__ or "").strip().rstrip(".")
    return kind(
        f"{deployment.alias} {what}: {reason}",
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
        return failure(RefusedError, deployment, "answered", status=200)
    if not reply.text.strip() and not reply.tool_calls:
        return failure(EmptyResponseError, deployment, "answered", status=200)
    return None


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Read how long to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    Args:
        now: seconds since the epoch.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    if milliseconds := _number(lowered.get("retry-after-ms")):
        return milliseconds / 1000
    value = lowered.get("retry-after")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else None


def decode(deployment: Deployment, content: bytes) -> Any:
    """Decode a JSON body, numbers with a point as `Decimal`.

    Raises:
        BrokenResponseError: it is not JSON.
    """
    from decimal import Decimal

    try:
        return json.loads(content, parse_float=Decimal)
    except ValueError:
        # `from None`: the decoder's error holds the whole answer.
        raise failure(BrokenResponseError, deployment, "sent no JSON", status=200) from None
