"""The material of a prompt: its sources, their sentences, and which of these say most."""

from __future__ import annotations

import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MIN_LENGTH, MAX_LENGTH = 40, 300

_SOURCE = re.compile(r"<source\b([^>]*)>(.*?)</source>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•#(]|\d+[.)]|[A-Z“\"]))")
_SENTENCE_END = re.compile(
    r"(?<![A-Z]\.)(?<!\b(?:Mr|Ms|Dr|No|St|Jr|vs))(?<!\b(?:Mrs|Sec|Rep|Sen))"
    r"(?<=[.!?])[\"”’)\]]*\s+(?=[\"“‘(\[]?[A-Z0-9])"
)
_WORD = re.compile(r"[^\W_]{3,}")
_STOP_WORDS = (
    "the and for that this with are was were has have had not but from which will shall may any "
    "all its their they you your our his her such under into than other been more who what when "
    "where how can one two also each per did does about out over between would should could there "
    "these those being both must only same some then them upon within whether"
)
_STOP = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True)
class Source:
    """One marked piece of a prompt, or everything where nothing is marked."""

    id: str
    title: str
    url: str
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A passage of a source, verbatim but for folded whitespace."""

    index: int
    text: str
    source: Source
    words: frozenset[str]


@dataclass(slots=True)
class Material:
    """Sentences with their weights, and an index from words to sentences."""

    sources: tuple[Source, ...]
    sentences: tuple[Sentence, ...]
    weights: tuple[float, ...]
    frequencies: Counter[str]
    _by_word: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    _ranked: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        index: defaultdict[str, list[int]] = defaultdict(list)
        for sentence in self.sentences:
            for word in sentence.words:
                index[word].append(sentence.index)
        self._by_word = dict(index)
        self._ranked = sorted(range(len(self.weights)), key=lambda i: (-self.weights[i], i))

    def best(
        self,
        topic: Iterable[str] = (),
        *,
        used: frozenset[int] | set[int] = frozenset(),
        source: Source | None = None,
    ) -> Sentence | None:
        """Return the weightiest sentence, on the topic if any is, unused and of the source if
        possible; None when there is no material.
        """
        boost: Counter[int] = Counter()
        for word in sorted(set(topic)):
            boost.update(self._by_word.get(word, ()))
        candidates = [*boost, *self._ranked]
        fresh = [i for i in candidates if i not in used] or candidates
        home = [i for i in fresh if source is None or self.sentences[i].source is source] or fresh
        if not home:
            return None
        chosen = min(home, key=lambda i: (-self.weights[i] - 0.5 * boost[i], i))
        return self.sentences[chosen]


def words(text: str) -> list[str]:
    """Return the content words of a text, in order, in lower case."""
    return [w for w in _WORD.findall(text.lower()) if w not in _STOP]


def read_sources(texts: Sequence[str]) -> tuple[Source, ...]:
    """Return the sources marked in the texts; none if nothing is marked."""
    return tuple(
        _source(number, attributes, body)
        for number, (attributes, body) in enumerate(
            (m.groups() for text in texts for m in _SOURCE.finditer(text)), start=1
        )
    )


def _source(number: int, attributes: str, body: str) -> Source:
    given = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(attributes)}
    return Source(given.get("id", str(number)), given.get("title", ""), given.get("url", ""), body)


def prepare(sources: Sequence[Source]) -> Material:
    """Split, weigh and index sources."""
    pieces = [(s, text) for s in sources for text in split_sentences(s.text)]
    good = [p for p in pieces if _says_something(p[1])] or pieces
    sentences = tuple(
        Sentence(i, text, source, frozenset(words(text))) for i, (source, text) in enumerate(good)
    )
    frequencies = Counter(w for s in sentences for w in words(s.text))
    weights = tuple(_weight(s, frequencies, len(sentences)) for s in sentences)
    return Material(tuple(sources), sentences, weights, frequencies)


def split_sentences(text: str) -> list[str]:
    """Split a text at paragraphs and sentence ends; long ones are cut at a word."""
    paragraphs = (p for p in _BREAK.split(text) if p.strip())
    pieces = (s for p in paragraphs for s in _SENTENCE_END.split(" ".join(p.split())))
    return [cut(s.strip(), MAX_LENGTH) for s in pieces if s.strip()]


def cut(text: str, length: int) -> str:
    """Shorten to whole words; what is left is still verbatim."""
    if len(text) <= length:
        return text
    head = text[: length + 1]
    space = head.rfind(" ")
    return head[:space].rstrip(" ,;:—-") if space > length // 2 else text[:length]


def _says_something(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    capitals = sum(c.isupper() for c in letters)
    return (
        len(text) >= MIN_LENGTH
        and len(letters) > len(text) / 2
        and capitals < 0.4 * len(letters)
        and not text.startswith(("#", "<", "{", "|"))
    )


def _weight(sentence: Sentence, frequencies: Counter[str], count: int) -> float:
    if not sentence.words:
        return 0.0
    salience = sum(math.log1p(frequencies[w]) for w in sorted(sentence.words))
    position = 1 - sentence.index / count
    return salience / (4 + len(sentence.words)) + 0.5 * position
