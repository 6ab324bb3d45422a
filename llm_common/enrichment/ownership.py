"""Whose is a value that stands on a page: the row's, another's, or nobody can tell.

A value belongs to what its own sentence or line names; else to what is named nearest above it;
else to what the whole page is about. Where layouts could be read in two ways, nobody can tell.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from . import lexicon as lex
from .naming import Key, Span, initials_of, is_label
from .neighbours import without_addresses
from .page_text import PageText, Unit, named
from .wording import texts_of, words_in

FARTHEST = 25
"""Units above a value in which its owner is looked for, on a page about several."""
RUN_GAP = 8
"""Units between two entries of one list."""

FEW_VALUES, HEADING_GAP = 3, 3
"""Values of an organisation's own page (main line, free line, fax); lines within an entry."""

_FOOTER = re.compile(
    r"©|\bcopyright\b|all rights reserved|privacy policy|terms of (?:use|service)|site ?map\b"
    r"|\bquick links\b|\brelated (?:links|articles|stories|people|members)\b|\bother members\b"
    r"|\byou may also\b|\bsee also\b|\bfooter\b|\bmain switchboard\b|\bpowered by\b",
    re.IGNORECASE,
)
_FACT = re.compile(
    r"(?:telephone|faxNumber|email|streetAddress|address\w*|postal\w+|jobTitle|description|contact\w*"
    r"|affiliation|birth\w+|gender|url|phone_number|fax_number|area\w+)\s?: "
)
"""What an extractor writes of a page's JSON-LD, without saying of which of its things."""
_VALUE_LIKE = re.compile(r"\S*@\S+|https?://\S+|\S*\d\S*")
_LONE_NAME = re.compile(r"(?:^|[|•;(])\s*([^\W\d_][\w'’-]+)\s*[:–—,-]\s*\W{0,2}$")

Others = Callable[[str], list[tuple[str, int, int]]]
"""Values like the one that is asked for which stand in a text: what they are, and where."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The row, as the owner of a value.

    Attributes:
        unit: number of the unit that names it; None if only the title does.
    """

    unit: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A value at a place of a page, and the key that is to own it."""

    page: PageText
    span: Span
    key: Key
    values: Others
    identity: str

    @property
    def unit(self) -> int:
        """Number of the unit that the value begins in."""
        return self.page.unit_at(self.span[0])

    def named(self, number: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """Return where a unit names the key, and where others."""
        return named(self.key, self.page.units[number].text)

    def has_others(self, number: int) -> bool:
        """Whether a unit has a value like this one, and another."""
        values = self.values(self.page.units[number].text)
        return any(identity != self.identity for identity, _, _ in values)


def owner_of(asked: Asked) -> Owner | str:
    """Return the row as the owner of a value, or why it is not known to be."""
    if len(initials_of(asked.key, asked.page.text)) > 1:
        return f"the page names several persons called {asked.key.value}"
    unit = asked.page.units[asked.unit]
    own, others = asked.named(asked.unit)
    if own or others:
        return _in_unit(asked, unit, own, others)
    if asked.key.kind == "person" and _FACT.match(unit.text):
        return "does not say whose fact it is"
    if lone := _lone_name(asked, unit):
        return f"stands nearer to {lone!r}"
    begins_small = unit.text.lstrip()[:1].islower()
    is_checked = unit.is_short or begins_small or not is_about(asked.page, asked.key)
    if asked.key.kind == "person" and is_checked and (words := _unknown(_around(asked, unit))):
        return f"stands nearer to {words!r}"
    return _above(asked)


def is_about(page: PageText, key: Key) -> bool:
    """Whether the title names the row, and nothing else of its kind."""
    own, others = named(key, page.title)
    return bool(own) and not others


def segment_of(asked: Asked, owner: Owner) -> range:
    """Return the units from the owner to the next that names another, the value's included."""
    units = asked.page.units
    begin = 0 if owner.unit is None else min(owner.unit, asked.unit)
    end = asked.unit + 1
    while end < len(units) and end - asked.unit < FARTHEST:
        if asked.named(end)[1] or _FOOTER.search(units[end].text):
            break
        end += 1
    return range(begin, end)


Mark = tuple[int, str]
"""Where something stands: ``own``, ``other`` or ``value``."""


def _in_unit(
    asked: Asked, unit: Unit, own: tuple[Span, ...], others: tuple[Span, ...]
) -> Owner | str:
    """Names stand before their values, until another value; one lone value may stand before."""
    at = asked.span[0] - unit.start
    values = _distinct(asked, unit)
    marks: list[Mark] = [(start, "own") for start, _ in own]
    marks += [(start, "other") for start, _ in others] + [(start, "value") for start in values]
    marks.sort()
    if len(values) > 1 and marks[0][1] == "value" and marks[-1][1] != "value":
        return "names seem to stand behind their values"
    groups: list[set[str]] = [set()]
    for start, kind in marks:
        if start >= at:
            break
        if kind != "value":
            groups[-1].add(kind)
        elif groups[-1]:
            groups.append(set())
    near = next((group for group in reversed(groups) if group), None)
    if near is None:
        near = {kind for _, kind in marks if kind != "value"} if len(values) == 1 else {"other"}
    before = [start for start in values if start < at]
    if before and asked.key.kind == "person" and (words := _unknown(unit.text[before[-1] : at])):
        return f"stands nearer to {words!r}"
    if near == {"own"}:
        return Owner(asked.unit)
    return f"stands nearer to {_first(unit, others)!r}" if others else "names nobody before it"


def _distinct(asked: Asked, unit: Unit) -> list[int]:
    """Return where values begin; one that is written twice in a row counts once."""
    starts: list[int] = []
    before = None
    for text, start, _ in sorted(asked.values(unit.text), key=lambda one: one[1]):
        if text != before:
            starts.append(start)
        before = text
    return starts or [asked.span[0] - unit.start]


def _above(asked: Asked) -> Owner | str:
    about, is_strict = is_about(asked.page, asked.key), False
    at, units = asked.unit, asked.page.units
    for number in range(at - 1, -1, -1):
        unit = units[number]
        if asked.page.is_title(number):
            break
        if asked.key.kind == "person" and _FOOTER.search(unit.text):
            return "stands below the end of what the page is about"
        if unit.is_short or unit.line == units[at].line or not about:
            own, others = asked.named(number)
            if others and not (about and _is_heading(asked, number)):
                return f"stands nearer to {_first(unit, others)!r}"
            if own:
                disorder = _disorder(asked, number, about=about)
                return disorder or Owner(number)
        if (is_strict and unit.is_short and _may_be_name(unit)) or _is_small_name(unit):
            return f"stands nearer to {unit.text.strip()!r}"
        is_strict = is_strict or asked.has_others(number)
        if not about and at - number > FARTHEST:
            break
    return _by_title(asked, about)


def _is_heading(asked: Asked, number: int) -> bool:
    """Whether a line of capitals is but a heading, on an organisation's own page.

    A page that lists dealers or staff has many values; one with few has headings.
    """
    if asked.key.kind != "thing" or asked.unit - number <= HEADING_GAP:
        return False
    values = {identity for identity, _, _ in asked.values(asked.page.text)}
    return len(values) <= FEW_VALUES


def _by_title(asked: Asked, about: bool) -> Owner | str:
    """The page's head and menus stand above its subject, and are not the subject's."""
    if not about:
        return f"nothing near it names {asked.key.value}"
    if asked.key.kind == "person":
        below = [asked.named(number) for number in range(len(asked.page.units))]
        words = set(asked.key.words)
        spelt = (set(texts_of(unit.text)) for unit in asked.page.units[asked.unit + 1 :])
        if any(own for own, _ in below[asked.unit + 1 :]) or any(words <= said for said in spelt):
            return f"stands before {asked.key.value} is named"
        if any(others for _, others in below):
            return f"stands on a page that names others, and {asked.key.value} in its title alone"
    return Owner(None)


def _disorder(asked: Asked, owner: int, *, about: bool) -> str | None:
    """Say why the list around an owner may not have a name before each value; None if it has.

    Of ``1 Ann 2 Bob`` the 2 may be Bob's; and what the last entry has more than any before it may
    stand below the list.
    """
    if asked.key.kind == "thing":
        above = range(max(0, owner - RUN_GAP), owner)
        has_values = any(asked.values(asked.page.units[number].text) for number in above)
        return "names seem to stand behind their values" if has_values and not about else None
    if _mark(asked, owner) == "both":
        return "stands behind an entry that has a value"
    run = _run(asked, owner)
    marks = [(number, mark) for number in run if (mark := _mark(asked, number))]
    names = [number for number, mark in marks if mark != "value"]
    if len(names) < 2:
        return None
    if any(mark == "both" and (number < owner or not about) for number, mark in marks):
        return "stands outside of the entries of a list"
    begins, ends = marks[0][1] == "value", marks[-1][1] == "name"
    if begins or (ends and not about):
        return "names seem to stand behind their values"
    if asked.unit not in run:
        return None if about else "stands too far below the name"
    entries = [0] * len(names)
    for number, mark in marks:
        if mark != "name" and number >= names[0] and number <= asked.unit:
            entries[bisect_right(names, number) - 1] += 1
    is_last = owner == names[-1]
    return "may stand below the list" if is_last and entries[-1] > max(entries[:-1]) else None


def _run(asked: Asked, owner: int) -> range:
    """Return the units of the list that an owner is in."""

    def reach(step: int) -> int:
        last = number = owner
        while 0 <= number < len(asked.page.units) and abs(number - last) <= RUN_GAP:
            if asked.page.is_title(number) or _FOOTER.search(asked.page.units[number].text):
                break
            last = number if _mark(asked, number) else last
            number += step
        return last

    return range(reach(-1), reach(1) + 1)


def _mark(asked: Asked, number: int) -> str:
    own, others = asked.named(number)
    has_value = bool(asked.values(asked.page.units[number].text)) or number == asked.unit
    if own or others or (asked.key.kind == "person" and _is_small_name(asked.page.units[number])):
        return "both" if has_value else "name"
    return "value" if has_value else ""


def _lone_name(asked: Asked, unit: Unit) -> str | None:
    """Return a given name alone, as in ``Jane: 916-319-2024``."""
    if asked.key.kind != "person":
        return None
    match = _LONE_NAME.search(unit.text[: asked.span[0] - unit.start])
    if match is None or not match[1][0].isupper() or is_label(match[1]):
        return None
    return None if words_in(match[1])[0].text in asked.key.words else match[1]


def _is_wordy(word: str) -> bool:
    return word.replace("-", "").isalpha()


def _around(asked: Asked, unit: Unit) -> str:
    """Return a unit without the value."""
    start, end = (max(0, offset - unit.start) for offset in asked.span)
    return f"{unit.text[:start]};{unit.text[end:]}"


def _unknown(text: str) -> str | None:
    """Return two words side by side that are no labels: names need no capitals."""
    bare = _VALUE_LIKE.sub(";", without_addresses(text))
    for one, other in pairwise(words_in(bare)):
        is_plain = _is_wordy(one.text) and _is_wordy(other.text)
        is_label = {one.text, other.text} & (lex.LABELS | lex.FUNCTION)
        if is_plain and not is_label and bare[one.end : other.start].isspace():
            return f"{one.text} {other.text}"
    return None


def _is_small_name(unit: Unit) -> bool:
    """Whether a line is two or three words without capitals and without labels."""
    words = words_in(unit.text)
    return 2 <= len(words) <= 3 and all(
        _is_wordy(word.text) and not word.capital and word.text not in lex.LABELS | lex.FUNCTION
        for word in words
    )


def _may_be_name(unit: Unit) -> bool:
    """Whether a line between two values may begin another entry, however it is written."""
    plain = [word for word in words_in(unit.text) if word.text.isalpha()]
    unknown = [w for w in plain if w.text not in lex.LABELS and w.text not in lex.FUNCTION]
    is_sentence = unit.text.rstrip().endswith((".", "!", "?"))
    return len(plain) == len(words_in(unit.text)) <= 5 and bool(unknown) and not is_sentence


def _first(unit: Unit, spans: tuple[Span, ...]) -> str:
    return unit.text[slice(*spans[0])]
