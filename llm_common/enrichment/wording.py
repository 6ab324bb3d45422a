"""Words of a text, made comparable: without case, accents, apostrophes and kinds of dashes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

_DASHES = "‐‑‒–−-"
_WORD = re.compile(rf"[^\W_]+(?:['’‘ʼ`´{_DASHES}][^\W_]+)*")
_APOSTROPHES = re.compile("['’‘ʼ`´]")
_POSSESSIVE = re.compile("['’‘ʼ`´][sS]$")
_DASH = re.compile(f"[{_DASHES}]")


@dataclass(frozen=True, slots=True)
class Word:
    """A word or number of a text.

    Attributes:
        text: folded; ``Smith's`` is ``smith``, ``Smith-Jones`` is one word.
        start: offset in the text; so is `end`.
        capital: whether it begins with a capital letter.
    """

    text: str
    start: int
    end: int
    capital: bool


@lru_cache(maxsize=8192)
def words_in(text: str) -> tuple[Word, ...]:
    """Return the words of a text in order."""
    return tuple(
        Word(plain(_POSSESSIVE.sub("", m[0])), m.start(), m.end(), m[0][0].isupper())
        for m in _WORD.finditer(text)
    )


def in_order(words: str) -> tuple[str, ...]:
    """Return the words of a list that is written as a text."""
    return tuple(words.split())


def word_set(words: str) -> frozenset[str]:
    """Return the words of a list that is written as a text."""
    return frozenset(words.split())


def plain(text: str) -> str:
    """Fold a text; what it means stays."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in folded if not unicodedata.combining(c))
    return _DASH.sub("-", _APOSTROPHES.sub("", bare))


def texts_of(text: str) -> list[str]:
    """Return the folded words alone."""
    return [word.text for word in words_in(text)]


def found(wanted: Sequence[str], words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Yield the first and last position of each place where words follow one another as wanted."""
    if not wanted:
        return
    for at in range(len(words) - len(wanted) + 1):
        if all(words[at + i].text == text for i, text in enumerate(wanted)):
            yield at, at + len(wanted) - 1
