"""Dates as ISO 8601 writes them, and where a text has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from .wording import in_order

_MONTHS = in_order(
    "january february march april may june july august september october november december"
)
_NAMES = {form: n for n, name in enumerate(_MONTHS, 1) for form in (name, name[:3])} | {"sept": 9}
_MONTH = r"(?P<month>" + "|".join(sorted(_NAMES, key=len, reverse=True)) + r")\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:1[5-9]|20)\d\d)"

_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?<![\d-]){_YEAR}-(?P<month_no>\d\d)-(?P<day>\d\d)(?![\d-])",
        rf"\b{_MONTH}\s+{_DAY},?\s+{_YEAR}(?!\d)",
        rf"(?<!\d){_DAY}\.?\s+(?:of\s+)?{_MONTH},?\s+{_YEAR}(?!\d)",
        rf"(?<![\d/.-])(?P<one>\d{{1,2}})(?P<sep>[/.-])(?P<two>\d{{1,2}})(?P=sep){_YEAR}(?![\d/-])",
        rf"\b{_MONTH},?\s+{_YEAR}(?!\d)",
        rf"(?<![\d-]){_YEAR}-(?P<month_no>\d\d)(?![\d-])",
        rf"(?<![\w/.$€£#-]){_YEAR}(?![\w/-]|[.,]\d)",
    )
)
"""The fullest first: what one form has taken, a later one leaves alone."""

MONTH_FIRST = frozenset({"US", "CA", "PH"})
"""Regions in which 3/4/2020 is in March."""

_WHOLE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")


def dates_in(text: str, region: str = "US") -> list[tuple[str, int, int]]:
    """Return dates with their offsets; a month is ``2020-03``, a year ``2020``."""
    taken: list[tuple[str, int, int]] = []
    for form in _FORMS:
        for match in form.finditer(text):
            if any(match.start() < end and start < match.end() for _, start, end in taken):
                continue
            if written := _written(match, region):
                taken.append((written, match.start(), match.end()))
    return sorted(taken, key=lambda one: one[1])


def iso_date(text: str, region: str = "US") -> str | None:
    """Return the one date that a text has; None without one, or with several."""
    moments = {written for written, _, _ in dates_in(text, region)}
    return moments.pop() if len(moments) == 1 else None


def covers(wanted: str, written: str) -> bool:
    """Whether a date that is written says what is wanted: a day says its month and its year."""
    return bool(_WHOLE.fullmatch(wanted)) and (written + "-").startswith(wanted + "-")


def first_day(written: str) -> date:
    """Return the first day of a date, a month or a year."""
    year, month, day = (*map(int, written.split("-")), 1, 1)[:3]
    return date(year, month, day)


def years_in(text: str) -> Iterator[int]:
    """Yield every year that a text names."""
    return (int(written[:4]) for written, _, _ in dates_in(text))


def _written(match: re.Match[str], region: str) -> str | None:
    part = match.groupdict()
    year = int(part["year"])
    if "one" in part:
        one, two = int(part["one"]), int(part["two"])
        is_month_first = two > 12 or (one <= 12 and region in MONTH_FIRST)
        month, day = (one, two) if is_month_first else (two, one)
    elif "month" in part or "month_no" in part:
        month = _NAMES[part["month"].lower()] if "month" in part else int(part["month_no"])
        day = int(part["day"]) if "day" in part else None
    else:
        return f"{year:04}"
    try:
        whole = date(year, month, day or 1)
    except ValueError:
        return None
    return whole.isoformat() if day else whole.isoformat()[:7]
