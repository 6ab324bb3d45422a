"""Does a text name what a row is about.

A false "no" costs a cell, a false "yes" gives a row the telephone number of its namesake; where a
name could be another's, the answer is no.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from . import lexicon as lex
from .states import only_state, state_of, states_in
from .wording import Word, texts_of, words_in

Kind = Literal["person", "thing", "state", "number"]

_NICKNAME = re.compile(r"[\"“”'‘’(]([^\"“”()]{1,20})[\"“”'’)]")
_MARKS = tuple("\"“”'‘’()")
_THING_GAP = re.compile(r"\s*[&,./'’-]?\s*")
COMMA = re.compile(r"\s*,\s*")
QUOTED = re.compile(r"\.?\s*[\"“”'‘’()]*\s*")
_SPLIT_WORD = re.compile(r"[_\W]+|(?<=[a-z])(?=[A-Z])")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that a row is known by.

    Attributes:
        labels: the words of its column's name.
        words: folded, without titles and suffix.
        variants: further forms that count as the same, such as with the nickname.
        suffix: such as ``jr``; empty if none.
        state: postal code, of a state.
    """

    kind: Kind
    value: str
    labels: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    variants: tuple[tuple[str, ...], ...] = ()
    suffix: str = ""
    state: str = ""


def keys_of(row: Mapping[str, Any], keys: Sequence[str]) -> tuple[Key, ...]:
    """Return what a row is known by: without empty columns, given and family name as one."""
    given = {name: " ".join(str(row.get(name) or "").split()) for name in keys}
    first = next((n for n in keys if _labels(n) & lex.GIVEN_NAME), None)
    last = next((n for n in keys if _labels(n) & lex.FAMILY_NAME), None)
    found: list[Key] = []
    if first and last and first != last and given[first] and given[last]:
        found.append(_person(f"{given.pop(first)} {given.pop(last)}", frozenset({"name"})))
    found += [key_of(name, value) for name, value in given.items() if value]
    return tuple(found)


@lru_cache(maxsize=4096)
def key_of(column: str, value: str) -> Key:
    """Return one key, of the kind that its column and value show."""
    labels = _labels(column)
    state = state_of(value)
    if state and (labels & lex.STATE_COLUMNS or (len(value) == 2 and value.isupper())):
        return Key("state", value, labels, state=state)
    words = texts_of(value)
    if len(words) == 1 and words[0].isdigit():
        return Key("number", value, labels, (words[0].lstrip("0") or "0",))
    return _person(value, labels) if _is_person(labels, words, value) else _thing(value, labels)


def places_of(key: Key, text: str) -> list[Span]:
    """Return where a text names a key, and no longer name that only begins or ends like it."""
    if key.kind == "state":
        return [(start, end) for code, start, end in states_in(text) if code == key.state]
    if key.kind == "number":
        return list(numbered(key, text))
    words = words_in(text)
    return [
        (words[first].start, words[last].end)
        for first, last in _candidates(key, words, text)
        if _stands_alone(key, words, first, last, text)
    ]


def initials_of(key: Key, text: str) -> frozenset[str]:
    """Return the middle initials with which a text names a person: several mean several persons."""
    if key.kind != "person":
        return frozenset()
    core = set(key.words)
    found = (texts_of(text[start:end]) for start, end in places_of(key, text))
    return frozenset(
        word for words in found for word in words if word not in core and len(word) == 1
    )


def named_state(text: str) -> str | None:
    """Return the one state that a whole text names; None for none, or several."""
    codes = {code for code, _, _ in states_in(text)}
    return codes.pop() if len(codes) == 1 else None


def is_label(text: str) -> bool:
    """Whether a short text is made of labels, places and numbers alone: it names nobody."""
    if only_state(text):
        return True
    return all(
        word.text in lex.LABELS or word.text in lex.FUNCTION or any(c.isdigit() for c in word.text)
        for word in words_in(text)
    )


def _labels(column: str) -> frozenset[str]:
    return frozenset(texts_of(_SPLIT_WORD.sub(" ", column)))


def _is_person(labels: frozenset[str], words: Sequence[str], value: str) -> bool:
    core = [word for word in words if word not in lex.SUFFIXES]
    if labels & lex.ORGANISATION_COLUMNS or not 2 <= len(core) <= 6:
        return False
    if any(char.isdigit() or char in "&/@" for char in value):
        return False
    return bool(labels & lex.PERSON_COLUMNS) or not lex.ORGANISATION & set(core)


def _person(value: str, labels: frozenset[str]) -> Key:
    nick = _NICKNAME.search(value)
    bare = _NICKNAME.sub(" ", value) if nick else value
    behind = bare.partition(",")[2]
    if behind.strip() and not set(texts_of(behind)) <= lex.SUFFIXES | lex.DEGREES:
        family, _, rest = bare.partition(",")
        bare = f"{rest} {family}"
    words = texts_of(bare)
    suffix = next((word for word in words[1:] if word in lex.SUFFIXES), "")
    core = [word for word in words if word not in lex.SUFFIXES]
    while len(core) > 2 and core[0] in lex.TITLES - lex.NAMES_TOO:
        del core[0]
    while len(core) > 2 and core[-1] in lex.DEGREES:
        del core[-1]
    variants: list[tuple[str, ...]] = []
    if nick and (called := texts_of(nick[1])):
        variants.append((*called, *core[1:]))
    without = [core[0], *(w for w in core[1:-1] if len(w) > 1), core[-1]] if core else []
    if len(without) < len(core):
        variants.append(tuple(without))
    return Key("person", value, labels, tuple(core), tuple(variants), suffix)


def _thing(value: str, labels: frozenset[str]) -> Key:
    words = [word for word in texts_of(value) if word != "and"]
    while len(words) > 1 and words[-1] in lex.LEGAL_FORMS:
        del words[-1]
    while len(words) > 1 and words[0] == "the":
        del words[0]
    return Key("thing", value, labels, tuple(words))


def _candidates(key: Key, words: Sequence[Word], text: str) -> Iterator[tuple[int, int]]:
    for form in (key.words, *key.variants):
        for first in range(len(words) if form else 0):
            last = _matched(key, form, words, first, text)
            if last is None and key.kind == "person":
                last = _inverted(form, words, first, text)
            if last is not None:
                yield first, last


def _matched(
    key: Key, form: Sequence[str], words: Sequence[Word], first: int, text: str
) -> int | None:
    """Match a form from a word on; return the last word of the match."""
    at = first
    for n in range(len(form)):
        if n and at < len(words) and not _fits(key, form, n, words[at].text):
            at += _may_stand_between(key, form, words[at], text)
        if at >= len(words) or not _fits(key, form, n, words[at].text):
            return None
        if n and not _is_gap(text, words[at - 1], words[at], key):
            return None
        at += 1
    return at - 1


def _fits(key: Key, form: Sequence[str], n: int, word: str) -> bool:
    """Whether a word is the one at `n`; of a person, an initial stands for its name."""
    wanted = form[n]
    if word == wanted:
        return True
    is_middle = 0 < n < len(form) - 1 or (n == 0 and len(wanted) == 1 and len(form) > 2)
    is_initial = 1 in (len(word), len(wanted)) and word[0] == wanted[0] and word.isalpha()
    return key.kind == "person" and is_middle and is_initial


def _may_stand_between(key: Key, form: Sequence[str], word: Word, text: str) -> bool:
    """Whether a page may have a word within a name: an initial, a nickname, ``and``."""
    if key.kind == "thing":
        return word.text == "and"
    quoted = text[word.start - 1 : word.start] in _MARKS and text[word.end : word.end + 1] in _MARKS
    # A row that gives a middle name or initial does not take another.
    return quoted or (len(form) == len(key.words) == 2 and len(word.text) == 1 and word.capital)


def _is_gap(text: str, before: Word, word: Word, key: Key) -> bool:
    gap = text[before.end : word.start]
    if "\n" in gap:
        return False
    if key.kind == "thing":
        return bool(_THING_GAP.fullmatch(gap))
    return gap.isspace() or bool(QUOTED.fullmatch(gap) and (gap[0] != "." or len(before.text) == 1))


def _inverted(form: Sequence[str], words: Sequence[Word], first: int, text: str) -> int | None:
    """Match ``Smith, John A.``."""
    for cut in range(1, len(form)):
        family, given = form[cut:], form[:cut]
        last = first + len(form) - 1
        if last >= len(words):
            return None
        if [w.text for w in words[first : last + 1]] != [*family, *given]:
            continue
        border = first + len(family) - 1
        if COMMA.fullmatch(text[words[border].end : words[border + 1].start]):
            more = last + 1
            is_initial = more < len(words) and len(words[more].text) == 1 and words[more].capital
            return more if is_initial and _adjacent(words, last, text) else last
    return None


def _adjacent(words: Sequence[Word], at: int, text: str) -> bool:
    """Whether nothing but a blank stands behind a word and before the next."""
    if not 0 <= at < len(words) - 1:
        return False
    gap = text[words[at].end : words[at + 1].start]
    return "\n" not in gap and (gap.isspace() or (gap.strip() == "." and len(words[at].text) <= 2))


def _stands_alone(key: Key, words: Sequence[Word], first: int, last: int, text: str) -> bool:
    behind = last + 1
    if key.kind == "person":
        gap = text[words[last].end : words[behind].start] if behind < len(words) else "\n"
        has = behind < len(words) and words[behind].text in lex.SUFFIXES and "\n" not in gap
        joined = has and bool(re.fullmatch(r"\s+|,\s*", gap))
        if (words[behind].text if joined else "") != key.suffix and not (
            joined and key.suffix and {words[behind].text, key.suffix} <= {"jr", "junior"}
        ):
            return False
        behind += joined
        last = behind - 1
    elif behind < len(words) and words[behind].text in lex.LEGAL_FORMS:
        last = behind
    return not _extends(words, first - 1, first - 1, text) and not _extends(
        words, last, last + 1, text
    )


def _extends(words: Sequence[Word], gap_at: int, neighbour: int, text: str) -> bool:
    """Whether the word beside a name seems to be a part of it, as in ``John Smith Elementary``."""
    if not _adjacent(words, gap_at, text):
        return False
    word = words[neighbour]
    if not word.capital or word.text in lex.BESIDE_NAMES:
        return False
    is_state = bool(states_in(text[word.start : word.end + 1].title().strip()))
    return not (word.text in lex.FUNCTION or is_state)


def numbered(key: Key, text: str) -> Iterator[Span]:
    """Yield numbers that a word of the key's column stands beside: ``District 24``, ``24th``."""
    names = {label[:4] for label in key.labels if len(label) >= 4}
    words = words_in(text)
    for at, word in enumerate(words):
        digits = re.fullmatch(r"0*(\d+)(?:st|nd|rd|th)?", word.text)
        if digits is None or (key.words and digits[1] != key.words[0]):
            continue
        beside = [words[n].text[:4] for n in (at - 2, at - 1, at + 1) if 0 <= n < len(words)]
        if names & set(beside) or text.strip() == text[word.start : word.end]:
            yield word.start, word.end
