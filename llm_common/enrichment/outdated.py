"""Does a passage or a page say of itself that it is no longer true."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from .dates import dates_in, first_day, iso_date, years_in
from .ownership import Owner
from .page_text import PageText

_PAST = re.compile(
    r"\b(?:former(?:ly)?|previous(?:ly)?|ex-(?=\w)|past (?:members?|officers?|presidents?|staff)"
    r"|no longer|used to|emerit(?:us|a)|retired|deceased|the late|in memoriam|resigned|stepped down"
    r"|left office|left the|defunct|closed permanently|permanently closed|out of business"
    r"|archived?|historical|outdated|out of date|superseded|predecessor"
    r"|was (?:succeeded|replaced)|term ended|until he|until she|until they)\b",
    re.IGNORECASE,
)
_PAST_TITLE = re.compile(r"\b(?:former|historical|archived?|emeriti|in memoriam)\b", re.IGNORECASE)
_PAST_HEADING = re.compile(
    r"^\W*(?:former|past|previous|historical|archived?)\b.*\b(?:members?|officers?|presidents?|staff|"
    r"legislators?|senators?|representatives?|boards?|directors?|employees?|officials?|mayors?|"
    r"councils?|chairs?|terms?|address(?:es)?|locations?|contacts?|owners?|leaders(?:hip)?|faculty|"
    r"judges?|roster|directory)\b|^\W*emeriti\b",
    re.IGNORECASE,
)
_NOW_HEADING = re.compile(r"\b(?:current|present|incumbent)\b", re.IGNORECASE)
_YEAR = r"(?:(?:1[5-9]|20)\d\d)"
_TERM = re.compile(
    rf"(?<![\w/-]){_YEAR}\s?(?:[-–—]|to|through|until)\s?(?P<end>{_YEAR})(?![\w/])"
    rf"|\b(?:until|till|through|ended(?: in)?|expired(?: in)?)\s+(?:\w+\.?\s+){{0,2}}"
    rf"(?P<until>{_YEAR})\b",
    re.IGNORECASE,
)
_AS_OF = re.compile(r"\bas of\b|\beffective\b|\bin effect on\b", re.IGNORECASE)
_UPDATED = re.compile(
    r"\b(?:last\s+)?(?:updated|modified|reviewed|revised|changed)(?:\s+on)?\s*:?\s*(.{4,30})",
    re.IGNORECASE,
)
_ARCHIVES = ("web.archive.org", "archive.org", "archive.today", "archive.ph", "archive.is")
_HEADINGS_ABOVE = 60


def past_of(
    page: PageText, owner: Owner, unit: int, *, now: datetime, max_age_days: int | None
) -> str | None:
    """Return the words by which a passage says that it is past; None if it does not.

    Looked at are the value's own sentence or line, the one that names the row, the title, and
    headings above such as ``Former members``.
    """
    near = {unit} if owner.unit is None else {unit, owner.unit}
    for number in sorted(near):
        if said := _past_words(page.units[number].text, now, max_age_days):
            return said
    if match := _PAST_TITLE.search(page.title):
        return match[0]
    for number in range(min(near) - 1, max(-1, min(near) - _HEADINGS_ABOVE), -1):
        text = page.units[number].text
        if len(text.split()) > 6 or not text[:1].isupper():
            continue
        if _NOW_HEADING.search(text):
            return None
        if match := _PAST_HEADING.search(text):
            return text.strip()
    return None


def page_date(page: Mapping[str, Any], text: PageText) -> str | None:
    """Return the date of a page: as its crawler says, else as its own text says; ISO 8601."""
    if dated := page.get("dated"):
        return str(dated)
    for unit in text.units:
        match = _UPDATED.search(unit.text) if unit.is_short else None
        if match and (said := iso_date(match[1])):
            return said
    return None


def age_of(dated: str | None, now: datetime) -> timedelta | None:
    """Return how old a date is; None if it is none. A month or a year counts from its end."""
    if dated is None or (written := iso_date(dated[:10])) is None:
        return None
    last = first_day(written)
    if len(written) == 4:
        last = date(last.year, 12, 31)
    elif len(written) == 7:
        last += timedelta(days=30)
    return max(timedelta(0), now.date() - last)


def is_archive(url: str | None) -> bool:
    """Whether a URL is a copy that an archive keeps of a page."""
    host = urlsplit(url or "").hostname or ""
    return any(host == name or host.endswith(f".{name}") for name in _ARCHIVES)


def _past_words(text: str, now: datetime, max_age_days: int | None) -> str | None:
    if match := _PAST.search(text):
        return match[0]
    for match in _TERM.finditer(text):
        if int(match["end"] or match["until"]) < now.year:
            return match[0].strip()
    if max_age_days is not None and (match := _AS_OF.search(text)):
        said = text[match.start() : match.end() + 30]
        for written, _, _ in dates_in(said)[:1]:
            if (age := age_of(written, now)) and age.days > max_age_days:
                return said[: said.find(str(next(years_in(said)))) + 4]
    return None
