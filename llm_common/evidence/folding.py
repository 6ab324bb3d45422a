"""Texts made comparable: what a typesetter may change is folded away, offsets are kept."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

_QUOTES = dict.fromkeys("‘’‚‛′`´", "'") | dict.fromkeys("“”„‟″«»", '"')
_DASHES = dict.fromkeys("‐‑‒–—―−﹘﹣－", "-")
_UNSEEN = dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
_SAME = _QUOTES | _DASHES | _UNSEEN

_TOKEN = re.compile(
    r"(?:(?<!\S)[-+])?[$€£¥]?\d\w*(?:[.,:/]\d\w*)*[%°]?"  # a number, with its sign and unit
    r"|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # scripts without spaces: every character
    r"|[^\W\d_][^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]*(?:'\w+)*"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word or a number.

    Attributes:
        text: folded.
        start: offset in the folded text; so is `end`.
        capital: whether the original begins with a capital letter.
    """

    text: str
    start: int
    end: int
    capital: bool

    @property
    def is_number(self) -> bool:
        """Whether it holds a digit."""
        return any(c.isdigit() for c in self.text)


@dataclass(frozen=True, slots=True)
class Folded:
    """A text after folding.

    Attributes:
        text: in lower case, with plain quotes and dashes and single spaces.
        origins: for each of its characters, the offset in the original.
    """

    original: str
    text: str
    origins: list[int]

    def tokens(self) -> list[Token]:
        """Return its words and numbers in order."""
        return [
            Token(m.group(), m.start(), m.end(), self._original(m.start()).isupper())
            for m in _TOKEN.finditer(self.text)
        ]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return offsets in the original for offsets in the folded text."""
        return self.origins[start], self.origins[end - 1] + 1

    def _original(self, position: int) -> str:
        return self.original[self.origins[position]]


def fold(text: str) -> Folded:
    """Fold a text: case, whitespace, typographic quotes and dashes, soft hyphens, ligatures."""
    pieces: list[str] = []
    origins: list[int] = []
    spaced = True
    for offset, char in enumerate(text):
        piece = _fold_character(char)
        if piece == " ":
            if spaced:
                continue
            spaced = True
        elif piece:
            spaced = False
        pieces.append(piece)
        origins.extend([offset] * len(piece))
    folded = "".join(pieces).rstrip(" ")
    return Folded(text, folded, origins[: len(folded)])


@cache
def _fold_character(char: str) -> str:
    if char in _SAME:
        return _SAME[char]
    if char.isspace():
        return " "
    if unicodedata.decomposition(char).startswith(("<super>", "<sub>")):
        return f"^{unicodedata.normalize('NFKD', char)}"  # 10² is not 102
    plain = unicodedata.normalize("NFKD", char).casefold()
    return "".join(_SAME.get(c, c) for c in plain)
