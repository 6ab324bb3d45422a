"""A page's text in units: lines, and of prose its sentences; read once, asked for every row."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ..evidence import Passages
from .naming import Key, Span, places_of
from .neighbours import others_in
from .wording import Word, texts_of, words_in

SHORT_WORDS = 12
"""A line of so many words is a heading, a field or a cell, not prose."""

_SENTENCE = re.compile(
    r"(?<!\b[A-Z])(?<!\b(?:Mr|Ms|Dr|Jr|Sr|St|Lt))(?<!\b(?:Mrs|Rep|Sen|Gov|Hon|Rev|Dem|Col|Sgt|Del))"
    r"(?<!\b(?:Prof|Asst|Supt))[.!?][\"”’)]*\s+(?=[\"“‘(]?\w)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A line, or a sentence of a long one.

    Attributes:
        start: offset in the page's text; so is `end`.
        line: number of its line.
    """

    text: str
    start: int
    end: int
    line: int

    @property
    def is_short(self) -> bool:
        """Whether it is no prose."""
        return len(words_in(self.text)) <= SHORT_WORDS


@dataclass(frozen=True)
class PageText:
    """What a page says, prepared to look up many quotes and names.

    Attributes:
        text: what quotes are looked up in.
        title: of the page; it need not stand in the text.
        starts: offsets of the units.
    """

    text: str
    title: str
    units: tuple[Unit, ...]
    starts: tuple[int, ...] = field(repr=False)
    passages: Passages = field(repr=False)
    words: tuple[Word, ...] = field(repr=False)

    def unit_at(self, offset: int) -> int:
        """Return the number of the unit that an offset is in."""
        return max(0, bisect_right(self.starts, offset) - 1)

    def is_title(self, number: int) -> bool:
        """Whether a unit is but the title, which the extractor puts before the text."""
        return number == 0 and texts_of(self.units[0].text) == texts_of(self.title)


@lru_cache(maxsize=256)
def page_text(text: str, title: str) -> PageText:
    """Prepare a page; the last ones are kept, for every cell of a row asks for the same."""
    units = tuple(_units(text))
    starts = tuple(unit.start for unit in units)
    return PageText(text, title, units, starts, Passages(text), words_in(text))


def text_of(page: Mapping[str, Any]) -> PageText:
    """Prepare a page of a crawler: its full text if there is one."""
    text = str(page.get("full_text") or page.get("text") or "")
    return page_text(text, str(page.get("title") or ""))


@lru_cache(maxsize=65_536)
def named(key: Key, text: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Return where a text names a key, and where something else of its kind."""
    return tuple(places_of(key, text)), tuple(others_in(key, text))


def _units(text: str) -> list[Unit]:
    units: list[Unit] = []
    at = 0
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            units += _sentences(line, at, number)
        at += len(line) + 1
    return units


def _sentences(line: str, offset: int, number: int) -> list[Unit]:
    if len(words_in(line)) <= SHORT_WORDS and ". " not in line:
        return [Unit(line, offset, offset + len(line), number)]
    units: list[Unit] = []
    begin = 0
    for end in [*(m.end() for m in _SENTENCE.finditer(line)), len(line)]:
        if line[begin:end].strip():
            units.append(Unit(line[begin:end], offset + begin, offset + end, number))
        begin = end
    return units
