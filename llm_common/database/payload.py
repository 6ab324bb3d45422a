"""What crosses the seam: one JSON value that Postgres takes as jsonb."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from pydantic_core import from_json

from ..errors import InvalidInputError
from ..types import JSON


def encode(payload: JSON) -> str:
    """Write a payload as JSON text that jsonb accepts.

    Decimals, UUIDs and dates become strings. jsonb refuses NUL and lone surrogates, and scraped
    pages have both: the first is dropped, the second replaced.

    Raises:
        InvalidInputError: the payload holds NaN, an infinity or something that is not JSON.
    """
    text = _dumps(payload)
    if "\\u0000" in text or not _encodable(text):
        text = _dumps(_clean(payload))
    return text


def decode(text: bytes) -> JSON:
    """Read the JSON text that a function answers with.

    pydantic's reader takes half as long as `json`, but refuses what is nested more than 200 deep.
    """
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)


def plain(payload: JSON) -> JSON:
    """Return the payload as `encode` would write it, for clients that do their own encoding."""
    return json.loads(encode(payload))


def _dumps(payload: JSON) -> str:
    try:
        return _ENCODER.encode(payload)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a payload is not JSON: {error}") from error


def _as_text(value: object) -> str:
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} can't be written")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_as_text)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(value: JSON) -> JSON:
    if isinstance(value, str):
        # Encoding with surrogatepass keeps pairs, decoding replaces what is left alone.
        whole = value.replace("\0", "").encode("utf-16", "surrogatepass")
        return whole.decode("utf-16", "replace")
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {_clean(key): _clean(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in cast("list[Any]", value)]
    return value
