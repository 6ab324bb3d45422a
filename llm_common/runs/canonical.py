"""Canonical JSON, version 1: one value has one text, and so one hash.

Keys sorted by code point, no white space, UTF-8, no NaN or infinity; numbers as Python's `json`
writes them; `Decimal`, dates, UUIDs and enums as their text; pydantic models as their JSON mode.
The golden vectors are in the tests: a change here is a new version, never a silent one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from ..database.payload import encode
from ..errors import InvalidInputError

VERSION = 1


def plain(value: Any) -> Any:
    """Return a value as the JSON that will be stored.

    Raises:
        InvalidInputError: something in it is no JSON, such as a set or a key that is no text.
    """
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_key(k): plain(v) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]  # pyright: ignore[reportUnknownVariableType]
    raise InvalidInputError(
        f"{type(value).__name__} is not JSON, so a step can't take or return it"
    )


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise InvalidInputError(f"a JSON key must be text, not {type(key).__name__}")


def canonical(value: Any) -> str:
    """Return the canonical JSON text of a value."""
    try:
        return json.dumps(
            plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except ValueError as error:
        raise InvalidInputError("NaN and infinity are not JSON") from error


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of the canonical JSON and its version."""
    return hashlib.sha256(b"%d:%s" % (VERSION, encoded(value))).hexdigest()


def encoded(value: Any) -> bytes:
    """Return the canonical JSON in UTF-8; the lone surrogates of scraped text pass."""
    return canonical(value).encode("utf-8", "surrogatepass")


def as_stored(value: Any) -> Any:
    """Return a value as the database gives it back: jsonb knows no exponents and no -0.0.

    NUL is dropped and half a surrogate pair replaced, as on the way there.
    """
    return _numbers(json.loads(encode(value)))


def _numbers(value: Any) -> Any:
    if isinstance(value, float):
        text = repr(value)
        return int(Decimal(text)) if "e+" in text else value + 0.0
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_numbers(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
