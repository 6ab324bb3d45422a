"""Whom else does a text name: persons and things of the kind that a row is of.

Too many of them cost cells, too few give a row what is its neighbour's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from . import lexicon as lex
from .naming import COMMA, QUOTED, Key, Span, numbered, places_of
from .states import GIVEN_NAMES, NAMES, only_state, state_of, states_in
from .wording import Word, words_in

_ADDRESS = re.compile(
    r"\S+@\S+|https?://\S+"
    r"|\bP\.?\s?O\.?\s*(?:Box|Drawer)\s*\w+"
    r"|(?<![\d(+-])\d{1,6}(?:-\d+)?(?: [NSEW]\.?)?(?: (?:[A-Z][\w.'’-]*|\d+(?:st|nd|rd|th))){1,4}? "
    r"(?:St|Street|Ave|Avenue|Blvd|Boulevard|Rd|Road|Dr|Drive|Ln|Lane|Hwy|Highway|Pkwy|Parkway|Way"
    r"|Plaza|Square|Sq|Ct|Court|Circle|Cir|Pl|Place|Terrace|Mall|Broadway)\b\.?"
    r"|[A-Z][\w.'’-]*, [A-Z]{2}\.?,? \d{5}(?:-\d{4})?"
)
"""Addresses of all kinds: boxes, streets and towns are called like people."""
_MOST_WORDS = 6


def others_in(key: Key, text: str) -> list[Span]:
    """Return where a text names something else of the same kind."""
    if key.kind == "state":
        return [(start, end) for code, start, end in states_in(text) if code != key.state]
    own = places_of(key, text)
    text = without_addresses(text)
    if key.kind == "number":
        return [span for span in numbered(Key("number", "", key.labels), text) if span not in own]
    spans = (span for run in _runs(text) for span in _others(key, run, text))
    return [s for s in spans if not any(s[0] < end and start < s[1] for start, end in own)]


def without_addresses(text: str) -> str:
    """Return a text of the same length, its addresses blotted out."""
    return _ADDRESS.sub(lambda match: ";" * len(match[0]), text)


@lru_cache(maxsize=16_384)
def _runs(text: str) -> tuple[tuple[Word, ...], ...]:
    """Return runs of capitals that may be names, with titles and labels."""
    words = words_in(text)
    runs: list[tuple[Word, ...]] = []
    at = 0
    while at < len(words):
        end = at + 1
        if words[at].capital:
            while end < len(words) and _goes_on(words, end, text):
                end += 1
            runs.append(words[at:end])
        at = end
    return tuple(runs)


def _goes_on(words: Sequence[Word], at: int, text: str) -> bool:
    gap = text[words[at - 1].end : words[at].start]
    initial = len(words[at - 1].text) <= 2 or words[at - 1].text in lex.TITLES
    quoted = bool(QUOTED.fullmatch(gap)) and gap.strip(". \t") != ""
    joined = gap.isspace() or (gap.strip() == "." and initial) or (quoted and "\n" not in gap)
    if re.fullmatch(r"\s*&\s*", gap):
        return words[at].capital
    if not joined or "\n" in gap:
        return _is_comma(words, at, text)
    return words[at].capital or words[at].text in lex.PARTICLES


def _is_comma(words: Sequence[Word], at: int, text: str) -> bool:
    """Whether ``Doe, Jane`` stands at the beginning of a line or a cell."""
    before = text[: words[at - 1].start].rstrip(" ")
    opens = not before or before[-1] in "|\n:;•–-" or not text[words[at].end :].strip(" .")
    comma = COMMA.fullmatch(text[words[at - 1].end : words[at].start])
    is_state = text[words[at].start : words[at].end] in NAMES
    plain_labels = lex.LABELS - lex.NAMES_TOO
    both = words[at].capital and not is_state and words[at - 1].text not in plain_labels
    return bool(opens and comma and both and words[at].text not in plain_labels | lex.SUFFIXES)


def _pieces(run: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """Yield what labels and plain words leave of a run: ``Room 12 Ann Doe Website`` is two."""
    drop = (lex.LABELS | lex.FUNCTION | lex.SUFFIXES) - lex.NAMES_TOO
    piece: list[Word] = []
    for word in (*run, None):
        if word is not None and word.text not in drop:
            piece.append(word)
            continue
        while piece and piece[0].text in lex.PARTICLES and not piece[0].capital:
            del piece[0]
        while piece and piece[-1].text in lex.PARTICLES and not piece[-1].capital:
            del piece[-1]
        if piece:
            yield tuple(piece)
        piece = []


def _others(key: Key, whole: Sequence[Word], text: str) -> Iterator[Span]:
    """Yield where a run names something else of a key's kind."""
    own = {*key.words, *(word for form in key.variants for word in form)}
    for piece in [tuple(whole)] if own <= {word.text for word in whole} else _pieces(whole):
        names = [word.text for word in piece if not any(c.isdigit() for c in word.text)]
        is_part = set(names) <= own and not own <= set(names)
        if not names or is_part or _is_place(piece, text) or _is_no_person(key, whole, piece, text):
            continue
        if key.kind == "thing" and len(piece) > _MOST_WORDS:
            continue
        begin = whole.index(piece[0])
        titled = begin > 0 and whole[begin - 1].text in lex.STRONG_TITLES
        span = piece[0].start, piece[-1].end
        alone = key.kind == "thing" and text.strip() == text[span[0] : span[1]]
        if len(names) >= 2 or titled or alone:
            yield span


def _is_no_person(key: Key, whole: Sequence[Word], piece: Sequence[Word], text: str) -> bool:
    """Whether a piece is a street, a school or the like, by the word that it ends in or before."""
    size = len(piece) - (piece[-1].text in lex.THINGS)
    if key.kind != "person" or size > 3 or set(key.words) <= {w.text for w in whole}:
        return False
    at = whole.index(piece[-1])
    last = next(
        (word for word in whole[at : at + 2] if word.text in lex.THINGS - lex.BESIDE_NAMES), None
    )
    before = text[: piece[0].start].rstrip()
    return last is not None and (last.text not in lex.NAMES_TOO or before[-1:].isdigit())


def _is_place(run: Sequence[Word], text: str) -> bool:
    said = text[run[0].start : run[-1].end]
    if said in NAMES or (len(said) > 2 and only_state(said)):
        return True
    if len(run) > 3:
        return False
    if run[0].text in lex.PLACE_BEGINNINGS or (len(run) == 2 and run[-1].text in lex.PLACE_ENDINGS):
        return True
    last = text[run[-1].start : run[-1].end]
    if last in NAMES or (len(last) > 2 and state_of(last) and run[-1].text not in GIVEN_NAMES):
        return True  # Akron Ohio, Petaluma CA
    behind = text[run[-1].end : run[-1].end + 40]
    return (
        len(run) <= 2
        and behind.startswith(", ")
        and any(start == 2 for _, start, _ in states_in(behind))
    )
