"""Answering any JSON schema with sentences of the material."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .material import Material, Sentence, Source, cut, words
from .question import Schema
from .schema import kind, number, resolve

MAX_ITEMS = 3
MAX_DEPTH = 8
MAX_NAME = 2000
QUOTES = ("quote", "evidence", "excerpt", "passage", "snippet", "verbatim")
SOURCES = ("source_id", "source", "source_ref", "citation_id")
LINKS = ("url", "link", "href", "uri", "source_url")
PHRASES = ("quer", "keyword", "search_term", "tags", "topics")


@dataclass(slots=True)
class Filler:
    """Fills one answer; remembers what it has said, so as not to repeat itself."""

    material: Material
    root: Schema
    sentence_length: int
    used: set[int] = field(default_factory=set[int])
    phrases_made: int = 0

    def fill(self, schema: Any, name: str = "", *, about: Source | None = None) -> Any:
        """Return a value that fits the schema."""
        return self._value(resolve(schema, self.root), name, about, 0)

    def _value(self, node: dict[str, Any], name: str, about: Source | None, depth: int) -> Any:
        if "const" in node:
            return node["const"]
        if "default" in node:
            return node["default"]
        if "enum" in node:
            return next((v for v in node["enum"] if v is not None), None)
        match kind(node):
            case "object":
                return self._object(node, about, depth)
            case "array":
                return self._array(node, name, about, depth)
            case "integer" | "number":
                return number(node, name)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(node, name, about)

    def _object(self, node: Schema, about: Source | None, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = node.get("properties", {})
        required: list[str] = node.get("required", [])
        anchor = self._anchor(properties, about)
        home = anchor.source if anchor else about
        filled: dict[str, Any] = {}
        for name, schema in properties.items():
            if depth >= MAX_DEPTH and name not in required:
                continue
            inner = resolve(schema, self.root)
            if anchor and "const" not in inner and "enum" not in inner and kind(inner) == "string":
                filled[name] = self._anchored(inner, name, anchor)
            else:
                filled[name] = self._value(inner, name, home, depth + 1)
        return filled

    def _anchor(self, properties: dict[str, Any], about: Source | None) -> Sentence | None:
        """Choose the sentence that an object with a quote or a source speaks of."""
        if not any(_is(name, QUOTES) or _is(name, (*SOURCES, *LINKS)) for name in properties):
            return None
        return self._sentence(" ".join(properties), about)

    def _anchored(self, node: dict[str, Any], name: str, anchor: Sentence) -> Any:
        if _is(name, SOURCES):
            return _fit(anchor.source.id, node, MAX_NAME)
        if _is(name, LINKS):
            return _fit(anchor.source.url, node, MAX_NAME)
        if _is(name, QUOTES):
            return _fit(anchor.text, node, self.sentence_length)
        return self._value(node, name, anchor.source, 0)

    def _array(self, node: Schema, name: str, about: Source | None, depth: int) -> list[Any]:
        least = int(node.get("minItems", 0))
        most = max(min(int(node.get("maxItems", MAX_ITEMS)), MAX_ITEMS), least)
        count = least if depth >= MAX_DEPTH else most
        prefix: list[Any] = list(node.get("prefixItems", ()))
        schemas: list[Any] = prefix or [node.get("items", {})] * count
        items = [self._value(resolve(s, self.root), name, about, depth + 1) for s in schemas]
        if prefix or not node.get("uniqueItems"):
            return items
        return _distinct(items)

    def _string(self, node: Schema, name: str, about: Source | None) -> str:
        if found := _formatted(node, about, self.material):
            return found
        if any(part in name.lower() for part in PHRASES):
            return _fit(self._phrase(), node, 80)
        if name.lower() in ("title", "heading", "headline"):
            return _fit(self._title(about), node, 120)
        topic = f"{name.replace('_', ' ')} {node.get('description', '')}"
        sentence = self._sentence(topic, about)
        return _fit(sentence.text if sentence else "", node, self.sentence_length)

    def _sentence(self, topic: str, about: Source | None) -> Sentence | None:
        sentence = self.material.best(words(topic), used=self.used, source=about)
        if sentence:
            self.used.add(sentence.index)
        return sentence

    def _title(self, about: Source | None) -> str:
        titled = [s.title for s in ([about] if about else self.material.sources) if s.title]
        return titled[0] if titled else self._phrase()

    def _phrase(self) -> str:
        """Return the next short phrase for a search engine: title words, then frequent ones."""
        phrases = search_phrases(self.material)
        self.phrases_made += 1
        return phrases[(self.phrases_made - 1) % len(phrases)] if phrases else ""


def search_phrases(material: Material) -> list[str]:
    """Return keyword phrases of a few words: one per title, then one per weighty sentence."""
    titles = [s.title for s in material.sources if s.title]
    ranked = sorted(material.sentences, key=lambda s: (-material.weights[s.index], s.index))
    texts = [*titles, *(s.text for s in ranked[: MAX_ITEMS * 4])]
    return list(dict.fromkeys(p for p in (_keywords(text, material) for text in texts) if p))


def _keywords(text: str, material: Material) -> str:
    distinct = list(dict.fromkeys(words(text)))
    telling = sorted(distinct, key=lambda w: (-material.frequencies[w], distinct.index(w)))[:6]
    return " ".join(w for w in distinct if w in telling)


def _is(name: str, names: tuple[str, ...]) -> bool:
    return any(name.lower() == n or name.lower().endswith(f"_{n}") for n in names)


def _fit(text: str, node: Schema, length: int) -> str:
    fitted = cut(text, min(length, int(node.get("maxLength", length))))
    least = int(node.get("minLength", 0))
    if len(fitted) >= least:
        return fitted
    return f"{fitted} {text * least}"[:least].ljust(least, ".")


def _formatted(node: Schema, about: Source | None, material: Material) -> str:
    """Return what a `format` or `pattern` asks for, taken from the material where it is there."""
    if "pattern" in node:
        return _by_pattern(str(node["pattern"]), material)
    source = about or next(iter(material.sources), None)
    match node.get("format"):
        case "uri" | "url":
            return (source.url if source else "") or "https://example.org/"
        case "date":
            return _by_pattern(r"^\d{4}-\d\d-\d\d$", material) or "2024-01-01"
        case "date-time":
            return "2024-01-01T00:00:00Z"
        case "email":
            return _by_pattern(r"^[\w.+-]+@[\w-]+\.[\w.]+$", material) or "nobody@example.org"
        case _:
            return ""


def _by_pattern(pattern: str, material: Material) -> str:
    for sentence in material.sentences:
        for candidate in (sentence.text, *sentence.text.split()):
            if re.search(pattern, candidate):
                return candidate
    return ""


def _distinct(items: list[Any]) -> list[Any]:
    return [item for i, item in enumerate(items) if item not in items[:i]]
