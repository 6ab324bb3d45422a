"""How long the other side asks to be left alone, as HTTP headers say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str] | None, now: float) -> float | None:
    """Read how long to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    Args:
        now: seconds since the epoch.
    """
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    if milliseconds := number(lowered.get("retry-after-ms")):
        return milliseconds / 1000
    value = lowered.get("retry-after")
    if value is None:
        return None
    seconds = number(value)
    if seconds is not None:
        return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(value).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def number(text: str | None) -> float | None:
    """Read a number without a sign; None for anything else."""
    # Stripped first: what a pattern takes for white space, `float` may not.
    stripped = (text or "").strip()
    return float(stripped) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", stripped) else None
