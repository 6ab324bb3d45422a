"""Is a value of the row's the one that its column asks for: no fax for a phone, and so on."""

from __future__ import annotations

import re
from typing import Any

from . import lexicon as lex
from .columns import label_words
from .models import Column
from .ownership import Asked, Owner, segment_of
from .wording import texts_of, word_set, words_in

_NEAR = 40
_CUT_SHORT = ("phone", "email", "url", "number", "integer")
_CUT = re.compile(r"\s?(?:…|\.\.\.)")
_FAX = re.compile(
    r"\b(?:e-?)?(?:fax|facsimile|telefax|f)\b(?=\W*$)|\be?-?(?:fax|facsimile|telefax)\b",
    re.IGNORECASE,
)
_COMMON = re.compile(
    r"\b(?:main (?:line|number|phone|desk)|switchboard|general (?:line|number|information)"
    r"|questions\b|(?:call|contact|reach) us|help desk|customer service|for more information"
    r"|hotline|reception|front desk|media line|press (?:line|office|contact))\b",
    re.IGNORECASE,
)
_FAX_BEHIND = re.compile(r"\W{0,4}(?:fax|facsimile|f)\b(?!.*\d{3})", re.IGNORECASE)
_CALL = re.compile(
    r"\b(?:phone|telephone|tel|voice|mobile|cell|call|ph|office|p|t|m|main|direct|toll[- ]free)\b",
    re.IGNORECASE,
)
_TYPE_WORDS = word_set(
    "phone telephone tel number email e-mail mail address url website web site link date name of "
    "the a an official contact is has value current"
)
_NEGATED = re.compile(
    r"\b(?:not|never|no longer|isn.t|wasn.t|neither|nor|opposed|defeated|against"
    r"|formerly|left the)\b",
    re.IGNORECASE,
)


def wrong_field(asked: Asked, owner: Owner, column: Column, value: Any) -> str | None:
    """Return why a value of the row is another than the column's; None if nothing says so."""
    unit = asked.page.units[asked.unit]
    before = unit.text[: asked.span[0] - unit.start]
    if column.type in _CUT_SHORT and _CUT.match(asked.page.text, asked.span[1]):
        return "breaks off in the value"
    if column.type == "phone" and (reason := _wrong_line(asked, column, before)):
        return reason
    if column.type == "email" and (reason := _anothers(asked, str(value))):
        return reason
    if column.type == "choice" and (reason := _undecided(asked, before)):
        return reason
    return _labelled_elsewhere(asked, owner, column)


def _wrong_line(asked: Asked, column: Column, before: str) -> str | None:
    """A number is a fax if that is the last word on it."""
    unit = asked.page.units[asked.unit]
    if not before.strip(" |:•-()+"):
        number = asked.unit - 1
        before = asked.page.units[number].text if number >= 0 else ""
        before = before if len(words_in(before)) <= 3 else ""
    near = before[-_NEAR:]
    if asked.key.kind == "person" and _COMMON.search(near):
        return "says that the number is everybody's"
    faxes = [m.start() for m in _FAX.finditer(near)]
    calls = [m.start() for m in _CALL.finditer(near)]
    is_fax = bool(faxes) and (not calls or faxes[-1] > calls[-1])
    is_fax = is_fax or bool(_FAX_BEHIND.match(unit.text[asked.span[1] - unit.start :]))
    wants_fax = bool(label_words(column) & {"fax", "facsimile"})
    if is_fax and not wants_fax:
        return "says that the number is a fax"
    return "does not say that the number is a fax" if wants_fax and not is_fax else None


def _anothers(asked: Asked, value: str) -> str | None:
    """``jane.doe@`` is not John Smith's, wherever it stands."""
    if asked.key.kind != "person":
        return None
    local = texts_of(re.sub(r"[._]", " ", value.partition("@")[0]))
    names = [part for part in local if len(part) > 1 and part.isalpha()]
    own = any(word in part for part in names for word in asked.key.words if len(word) > 1)
    labels = any(part in lex.LABELS for part in names)
    return None if own or labels or len(names) != 2 else "gives an address of another name"


def _undecided(asked: Asked, before: str) -> str | None:
    unit = asked.page.units[asked.unit]
    if asked.has_others(asked.unit):
        return "names several of the choices"
    sentence = unit.text[: asked.span[1] - unit.start]
    if match := _NEGATED.search(sentence):
        return f"says {match[0]!r} before it"
    behind = unit.text[asked.span[1] - unit.start :][:30]
    if re.match(r"\s+(?:challenger|opponent|rival|colleagues?|voters?|nominee against)\b", behind):
        return "says it of somebody else"
    return None if before or unit.text else "says nothing"


def _labelled_elsewhere(asked: Asked, owner: Owner, column: Column) -> str | None:
    """Another value of the row's stands beside the column's own word, and this one does not."""
    wanted = label_words(column) - _TYPE_WORDS
    if not wanted or _labels_of(asked, asked.unit, owner) & wanted:
        return None
    for number in segment_of(asked, owner):
        if asked.has_others(number) and _labels_of(asked, number, owner) & wanted:
            return f"is another one than that of {' '.join(sorted(wanted))}"
    return None


def _labels_of(asked: Asked, number: int, owner: Owner) -> set[str]:
    """Return the words of a unit and, where it is a value alone, of the one above."""
    units = asked.page.units
    words = set(texts_of(units[number].text))
    if not any(word.isalpha() for word in words) and number - 1 >= 0 and number - 1 != owner.unit:
        words |= set(texts_of(units[number - 1].text))
    return words
