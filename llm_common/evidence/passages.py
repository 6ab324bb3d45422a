"""Does a text hold a quote: verified, repaired or unverified."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .folding import Folded, Token, fold
from .repair import find_passage, limits

Status = Literal["verified", "repaired", "unverified"]

MIN_WORDS, MIN_LENGTH = 3, 12
MAX_GAP_WORDS = 40
_RANK = {"verified": 0, "repaired": 1, "unverified": 2}
_ELLIPSIS = re.compile(r"\s*[\[(]?\.{3,}[\])]?\s*")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a quote.

    Attributes:
        status: ``verified``: the text holds it, but for case, whitespace and typography;
            ``repaired``: the text holds a passage that differs slightly, and never in a number,
            a negation or a name; ``unverified``: neither, or it is too short to prove anything.
        quote: the text's own words; of an unverified quote, the quote as it was given.
        start: offset of the passage in the text; None if unverified. So is `end`.
    """

    status: Status
    quote: str
    start: int | None = None
    end: int | None = None


class Passages:
    """A text, prepared once to verify many quotes against it."""

    def __init__(self, text: str) -> None:
        self._folded = fold(text)
        self._tokens = self._folded.tokens()
        self._starts = [token.start for token in self._tokens]
        index: defaultdict[str, list[int]] = defaultdict(list)
        for position, token in enumerate(self._tokens):
            index[token.text].append(position)
        self._index = dict(index)

    def verify(self, quote: str) -> Verdict:
        """Look for a quote in the text."""
        asked = fold(quote.strip().strip("\"'“”„«»‘’"))
        words = asked.tokens()
        if len(words) < MIN_WORDS or len(asked.text) < MIN_LENGTH:
            return Verdict("unverified", quote)
        if exact := self._find(asked.text):
            return self._verdict("verified", *exact)
        if near := self._elided(asked) or self._altered(words):
            return self._verdict("repaired", *near)
        return Verdict("unverified", quote)

    def _find(self, wanted: str, begin: int = 0) -> tuple[int, int] | None:
        """Find a folded string that cuts no word and no number in two."""
        at = self._folded.text.find(wanted, begin)
        while at >= 0:
            end = at + len(wanted)
            if not (self._cuts(at) or self._cuts(end)):
                return at, end
            at = self._folded.text.find(wanted, at + 1)
        return None

    def _cuts(self, position: int) -> bool:
        before = bisect_right(self._starts, position) - 1
        return before >= 0 and self._tokens[before].start < position < self._tokens[before].end

    def _elided(self, asked: Folded) -> tuple[int, int] | None:
        """Find the parts of a quote with ellipses, in order and not far apart."""
        parts = [part for part in _ELLIPSIS.split(asked.text) if part]
        if not _ELLIPSIS.search(asked.text) or any(len(p) < MIN_LENGTH for p in parts):
            return None
        begin = 0
        while first := self._find(parts[0], begin):
            if end := self._continued(first[1], parts[1:]):
                return first[0], end
            begin = first[0] + 1
        return None

    def _continued(self, end: int, parts: Sequence[str]) -> int | None:
        for part in parts:
            found = self._find(part, end)
            if found is None:
                return None
            left_out = self._between(end, found[0])
            if len(left_out) > MAX_GAP_WORDS or limits(left_out):
                return None
            end = found[1]
        return end

    def _between(self, start: int, end: int) -> list[Token]:
        low, high = bisect_right(self._starts, start - 1), bisect_right(self._starts, end - 1)
        return self._tokens[low:high]

    def _altered(self, words: Sequence[Token]) -> tuple[int, int] | None:
        found = find_passage(words, self._tokens, self._index)
        if found is None:
            return None
        first, last = found
        return self._tokens[first].start, self._tokens[last].end

    def _verdict(self, status: Status, start: int, end: int) -> Verdict:
        begin, stop = self._folded.span(start, end)
        return Verdict(status, self._folded.original[begin:stop], begin, stop)


def verify(quote: str, text: str) -> Verdict:
    """Look for a quote in a text; for several quotes prepare `Passages` once."""
    return Passages(text).verify(quote)


def find_best(quote: str, sources: Mapping[str, str | Passages]) -> tuple[str | None, Verdict]:
    """Look for a quote in several texts.

    Returns:
        The id of the source that holds it best, the first of equals, with the verdict there;
        None and an unverified verdict where no source holds it.
    """
    best: tuple[str | None, Verdict] = (None, Verdict("unverified", quote))
    for source_id, source in sources.items():
        passages = Passages(source) if isinstance(source, str) else source
        verdict = passages.verify(quote)
        if verdict.status == "verified":
            return source_id, verdict
        if _RANK[verdict.status] < _RANK[best[1].status]:
            best = (source_id, verdict)
    return best
