"""What a column's values are: their normal form, when two are the same, where a text has one.

Normal forms: telephone numbers as E.164 with `` ext. 5`` behind it, addresses of e-mail with their
domain in lower case, dates as ISO 8601 (``2020``, ``2020-03`` or ``2020-03-05``, as much as is
known), numbers as JSON numbers or, where a float would not be exact, as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from ..crawling import normalize_url
from ..errors import InvalidInputError
from .dates import covers, dates_in, iso_date
from .models import Column
from .numbers import as_json, number_of, numbers_in
from .phones import phone_of, phones_in
from .wording import Word, found, texts_of, word_set, words_in

Span = tuple[int, int]

DEFAULT_REGION = "US"

_NOTHING = word_set(
    "n/a na none null nil unknown unavailable undefined - -- — ? tbd tba not_found"
) | {"not found", "not available", "not listed", "not stated", "not provided", "no value"}
_YES, _NO = word_set("yes true y 1"), word_set("no false n 0")
_NEGATIONS = word_set("no not never none without cannot false isnt doesnt dont wont neither")
_AT, _DOT = r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)", r"(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)"
_EMAIL = re.compile(
    rf"(?<![\w.+-])([\w.+-]*\w){_AT}((?:\w(?:[\w-]*\w)?{_DOT})+[a-z][a-z0-9-]*[a-z])(?![\w-])",
    re.IGNORECASE,
)
_DOTS = re.compile(_DOT, re.IGNORECASE)
_URL = re.compile(
    r"(?<![\w@.-])(?:https?://[^\s<>\"|]+|(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}"
    r"(?:/[^\s<>\"|]*)?)(?![\w@])",
    re.IGNORECASE,
)
_PARTY = re.compile(r"\(([A-Z])(?:[-–][A-Z][\w. -]*)?\)|(?<![\w-])([A-Z])[-–][A-Z]{2}(?![\w])")
_SPACE = re.compile(r"\s+")
_LONGEST_URL_END = ".,;:!?)]}'\""


def normal_value(column: Column, raw: Any, *, region: str = DEFAULT_REGION) -> Any | None:
    """Return a value in its normal form; None for nothing, or what is not of the column's type.

    Args:
        region: ISO 3166 code of the country whose telephone numbers and dates are meant.

    Raises:
        MissingExtraError: a telephone number, without the extra `contacts`.
    """
    if raw is None or isinstance(raw, dict | list | tuple | set):
        return None
    if isinstance(raw, bool) and column.type not in ("boolean", "choice"):
        return None
    text = _SPACE.sub(" ", str(raw)).strip()
    if not text or text.casefold() in _NOTHING:
        return None
    if column.type in ("number", "integer"):
        return _number(raw if not isinstance(raw, str) else text, column.type)
    if column.type == "choice":
        return _choice(column, text)
    return _NORMAL[column.type](text, region)


def identity(column: Column, value: Any) -> str:
    """Return what all ways to write a value of a column have in common."""
    if column.type in ("text", "choice"):
        return " ".join(texts_of(str(value))) or str(value)
    if column.type == "url":
        parts = urlsplit(str(value))
        host = parts.netloc.lower().removeprefix("www.")
        return f"{host}{parts.path.rstrip('/')}?{parts.query}"
    if column.type in ("number", "integer"):
        return str(Decimal(str(value)).normalize())
    return str(value).casefold()


def places(column: Column, value: Any, passage: str, *, region: str = DEFAULT_REGION) -> list[Span]:
    """Return the offsets at which a passage contains a normal value."""
    if column.type == "boolean":
        return _boolean_places(column, value, passage)
    if column.type == "text":
        return _word_places(texts_of(str(value)), words_in(passage), str(value), passage)
    wanted = identity(column, value)
    return [
        (start, end)
        for other, start, end in values_in(column, passage, region=region)
        if _says(column, other, value, wanted)
    ]


def values_in(
    column: Column, passage: str, *, region: str = DEFAULT_REGION
) -> list[tuple[Any, int, int]]:
    """Return all values of a column's type that a passage has; of text and booleans, none."""
    if column.type == "phone":
        return list(phones_in(passage, region))
    if column.type == "email":
        return [(_email(m[0], region), m.start(), m.end()) for m in _EMAIL.finditer(passage)]
    if column.type == "url":
        return _urls_in(passage)
    if column.type == "date":
        return list(dates_in(passage, region))
    if column.type in ("number", "integer"):
        return [(as_json(number), start, end) for number, start, end in numbers_in(passage)]
    if column.type == "choice":
        return _choices_in(column, passage)
    return []


def label_words(column: Column) -> frozenset[str]:
    """Return the words by which a column is known, such as ``capitol`` and ``phone``."""
    return frozenset(texts_of(re.sub(r"[_\W]+|(?<=[a-z])(?=[A-Z])", " ", column.name)))


def _says(column: Column, other: Any, value: Any, wanted: str) -> bool:
    if other is None:
        return False
    if column.type == "date":
        return covers(str(value), str(other))
    if column.type == "phone":
        # A passage may give an extension that a value leaves out, never the other way round.
        return str(other) == value or str(other).partition(" ext. ")[0] == value
    return identity(column, other) == wanted


def _number(raw: Any, kind: str) -> Any | None:
    number = number_of(raw)
    if number is None or (kind == "integer" and number != number.to_integral_value()):
        return None
    return as_json(number)


def _choice(column: Column, text: str) -> str | None:
    wanted = texts_of(text)
    for choice in column.choices:
        if choice.casefold() == text.casefold() or (wanted and texts_of(choice) == wanted):
            return choice
    if letter := _PARTY.fullmatch(text) or re.fullmatch("([A-Z])()", text):
        return _lettered(column, letter[1] or letter[2])
    near = [choice for choice in column.choices if wanted and _same_stems(texts_of(choice), wanted)]
    return near[0] if len(near) == 1 else None


def _lettered(column: Column, letter: str) -> str | None:
    """Return the party that a letter stands for, if it is the only one: ``(D-Fresno)``."""
    if not label_words(column) & {"party", "affiliation"}:
        return None
    named = [choice for choice in column.choices if choice[:1].upper() == letter]
    return named[0] if len(named) == 1 else None


def _same_stems(ours: list[str], theirs: list[str]) -> bool:
    """``Democrat`` is ``Democratic``, and ``Republicans`` is ``Republican``."""
    return len(ours) == len(theirs) and all(map(_is_near, ours, theirs))


def _is_near(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= 6 and long in (short + "s", short + "ic", short + "ics"))


def _choices_in(column: Column, passage: str) -> list[tuple[Any, int, int]]:
    """Return the choices that stand there; of two at one place, the longer."""
    words = words_in(passage)
    spans: list[tuple[Any, int, int]] = []
    for choice in column.choices:
        wanted = texts_of(choice)
        for at in range(len(words) - len(wanted) + 1 if wanted else 0):
            last = at + len(wanted) - 1
            if _same_stems(wanted, [word.text for word in words[at : last + 1]]):
                spans.append((choice, words[at].start, words[last].end))
    spans += [
        (choice, match.start(), match.end())
        for match in _PARTY.finditer(passage)
        if (choice := _lettered(column, match[1] or match[2]))
    ]
    whole = [
        one
        for one in spans
        if not any(
            b[1] <= one[1] and one[2] <= b[2] and b[2] - b[1] > one[2] - one[1] for b in spans
        )
    ]
    return sorted(whole, key=lambda one: one[1])


def _word_places(
    wanted: list[str], words: tuple[Word, ...], value: str, passage: str
) -> list[Span]:
    if wanted:
        return [(words[a].start, words[b].end) for a, b in found(wanted, words)]
    at = passage.find(value)
    return [(at, at + len(value))] if value and at >= 0 else []


def _boolean_places(column: Column, value: Any, passage: str) -> list[Span]:
    """Return where a label stands, if what is said beside it is a plain yes or no."""
    words = words_in(passage)
    said = {word.text for word in words}
    labels = label_words(column) - {"is", "has", "are", "was", "does", "can"}
    if not labels or not labels <= said:
        return []
    yes = not said & _NEGATIONS
    named = [word for word in words if word.text in labels]
    return [(named[0].start, named[-1].end)] if yes is bool(value) else []


def _boolean(text: str, _region: str) -> bool | None:
    folded = text.casefold()
    return True if folded in _YES else False if folded in _NO else None


def _email(text: str, _region: str) -> str | None:
    match = _EMAIL.search(text.removeprefix("mailto:"))
    if match is None or len(_EMAIL.findall(text)) > 1:
        return None
    return f"{match[1]}@{_DOTS.sub('.', match[2]).lower()}"


def _url(text: str, _region: str) -> str | None:
    if "@" in text or " " in text or "." not in text:
        return None
    try:
        return normalize_url(text if "://" in text else f"https://{text}")
    except InvalidInputError:
        return None


def _urls_in(passage: str) -> list[tuple[Any, int, int]]:
    spans: list[tuple[Any, int, int]] = []
    for match in _URL.finditer(passage):
        written = match[0].rstrip(_LONGEST_URL_END)
        if url := _url(written, DEFAULT_REGION):
            spans.append((url, match.start(), match.start() + len(written)))
    return spans


_NORMAL: Mapping[str, Callable[[str, str], Any | None]] = {
    "text": lambda text, _region: text,
    "boolean": _boolean,
    "date": iso_date,
    "email": _email,
    "phone": phone_of,
    "url": _url,
}
