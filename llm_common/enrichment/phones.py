"""Telephone numbers as values, by libphonenumber (extra `contacts`)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from ..extras import require

_ENOUGH = re.compile(r"(?:\d\D{0,4}){7}")
_GLUED_BEFORE = re.compile(r"[^\W\d_](?=\+?\(?\d)")
_GLUED_BEHIND = re.compile(r"(?<=\d)(?!(?:x|ext)\.?\s?\d)[^\W\d_]", re.IGNORECASE)


def phone_of(raw: str, region: str = "US") -> str | None:
    """Return a number as E.164 writes it, and `` ext. 5`` behind it; None if it is no valid one."""
    lib = _library()
    try:
        number = lib.parse(raw, region)
    except lib.NumberParseException:
        return None
    return _written(number) if lib.is_valid_number(number) else None


@lru_cache(maxsize=8192)
def phones_in(text: str, region: str = "US") -> tuple[tuple[str, int, int], ...]:
    """Return the valid numbers of a text with their offsets."""
    if not _ENOUGH.search(text):
        return ()
    # Blocks that a page sets side by side leave "Phone916 319 2024Email"; offsets stay.
    apart = _GLUED_BEHIND.sub(" ", _GLUED_BEFORE.sub(" ", text))
    matches = _library().PhoneNumberMatcher(apart, region)
    return tuple((_written(match.number), match.start, match.end) for match in matches)


@lru_cache(maxsize=1)
def regions() -> frozenset[str]:
    """Return the regions that have numbers, such as ``US``."""
    return frozenset(_library().SUPPORTED_REGIONS)


def _written(number: Any) -> str:
    lib = _library()
    plain = lib.PhoneNumber(
        country_code=number.country_code,
        national_number=number.national_number,
        italian_leading_zero=number.italian_leading_zero,
        number_of_leading_zeros=number.number_of_leading_zeros,
    )
    written = str(lib.format_number(plain, lib.PhoneNumberFormat.E164))
    return f"{written} ext. {number.extension}" if number.extension else written


def _library() -> Any:
    return require("phonenumbers", "contacts")
