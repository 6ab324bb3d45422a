"""Numbers of a text, exact."""

from __future__ import annotations

import re
from decimal import Decimal

from .wording import in_order

_SCALES = {
    "hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "mn": 6,
    "billion": 9, "b": 9, "bn": 9, "trillion": 12,
}  # fmt: skip
_SMALL = in_order(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = {word: Decimal(n) for n, word in enumerate(_SMALL)}

_NUMBER = re.compile(
    r"(?<![\w/:.,-])(?P<sign>[-−+])?\s?(?:[$€£¥]\s?)?"
    r"(?P<whole>\d{1,3}(?:[,'’\u00a0\u202f]\d{3})+|\d+)(?P<part>\.\d+)?"
    r"(?:\s?(?P<scale>" + "|".join(sorted(_SCALES, key=len, reverse=True)) + r")(?!\w))?"
    r"(?![\w/:]|[.,-]\d|-\w*\d)",
    re.IGNORECASE,
)
_WORD = re.compile(rf"(?<![\w-])(?:{'|'.join(_SMALL)})(?![\w-])", re.IGNORECASE)
_NOT_DIGIT = re.compile(r"\D")


def numbers_in(text: str) -> list[tuple[Decimal, int, int]]:
    """Return numbers with their offsets, such as ``1,234``, ``$4.5 million`` and ``seven``.

    What is a part of something else, such as of a date or a telephone number, is none.
    """
    found = [(_value(m), m.start(), m.end()) for m in _NUMBER.finditer(text)]
    found += [(_WORDS[m[0].lower()], m.start(), m.end()) for m in _WORD.finditer(text)]
    return sorted(found, key=lambda one: one[1])


def number_of(raw: object) -> Decimal | None:
    """Return the one number that a value is; None for none, several, or no finite one."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float | Decimal):
        exact = Decimal(str(raw))
        return exact if exact.is_finite() else None
    found = {number for number, _, _ in numbers_in(str(raw))}
    return found.pop() if len(found) == 1 else None


def as_json(number: Decimal) -> int | float | str:
    """Return a number as JSON keeps it: exact, so as text where a float would not be."""
    if number == number.to_integral_value():
        return int(number)
    near = float(number)
    return near if Decimal(repr(near)) == number else str(number)


def _value(match: re.Match[str]) -> Decimal:
    whole = _NOT_DIGIT.sub("", match["whole"])
    value = Decimal(whole + (match["part"] or ""))
    if match["scale"]:
        value = value.scaleb(_SCALES[match["scale"].lower()])
    return -value if match["sign"] in ("-", "−") else value
