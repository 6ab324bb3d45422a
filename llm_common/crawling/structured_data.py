"""What a page says to machines: JSON-LD, microdata and contact meta tags, as plain facts.

A fact is a schema.org property and its value. Page authors write JSON-LD by hand, too: comments,
trailing commas, several objects in a row and broken strings are read as far as they go.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from .tree import folded, name_of

Fact = tuple[str, str]
"""A property's name and its value."""

MOST_READ, MOST_FACTS = 2000, 200
"""How many are looked at, and how many are told."""
MOST_CHARACTERS = 500
"""Of one value; longer ones are prose, which the page shows."""
_DEEPEST = 40

_NO_FACTS = (
    "image images logo thumbnail thumbnailurl contenturl embedurl width height potentialaction "
    "breadcrumb itemlistelement position inlanguage articlebody reviewbody mainentityofpage "
    "ispartof primaryimageofpage query-input target encodingformat wordcount commentcount "
    "interactionstatistic searchaction speakable hasdrm url sameas hasmap item"
)
_SKIPPED = frozenset(_NO_FACTS.split())
_CONTACT_META = re.compile(
    r"(?:business:contact_data|place:location|og):?(?:phone|fax|e-?mail|street|locality|region|postal|"
    r"country)|^(?:(?:og:)?description$|e-?mail|tele?phone|phone|fax|reply-to|contact|geo\.placename|address)",
    re.IGNORECASE,
)
_COMMENT = re.compile(
    r"^\s*(?:<!--|(?://)?\s*<!\[CDATA\[|/\*.*?\*/)|(?:-->|(?://\s*)?\]\]>)\s*;?\s*$"
)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_BETWEEN = re.compile(r"[\s,;]*")
_PAIR = re.compile(r'"([A-Za-z]{2,40})"\s*:\s*"((?:[^"\\\n]|\\.){1,500})"')
_NOT_WORD = re.compile(r"[\W_]+")


def json_ld(root: Any) -> list[Any]:
    """Return the objects of all JSON-LD blocks; of a broken one, its readable pairs."""
    found: list[Any] = []
    for script in root.iter("script"):
        if "ld+json" in (script.get("type") or "").lower() and script.text:
            found += _loaded(script.text)
    return found


def _loaded(source: str) -> list[Any]:
    text = _COMMENT.sub("", source.strip()).strip()
    for candidate in (text, _TRAILING_COMMA.sub(r"\1", text)):
        try:
            return _sequence(candidate)
        except (ValueError, RecursionError):
            continue
    pairs = [(m[1], _unescaped(m[2])) for m in _PAIR.finditer(text)]
    return [{name: value} for name, value in pairs]


def _sequence(text: str) -> list[Any]:
    """Load one JSON value or several in a row."""
    decoder = json.JSONDecoder(strict=False)
    found: list[Any] = []
    at = 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at = _BETWEEN.match(text, at).end()  # pyright: ignore[reportOptionalMemberAccess]
    return found


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def values_of(data: Iterable[Any], name: str) -> Iterator[str]:
    """Yield the values of a property, wherever it stands, in the order of the page."""
    wanted = name.lower()
    return (value for found, value in _walk(data) if found.lower() == wanted)


def facts(root: Any, data: Iterable[Any]) -> Iterator[Fact]:
    """Yield what JSON-LD, microdata, RDFa and contact meta tags say."""
    for name, value in _walk(data):
        if name.lower() not in _SKIPPED and not name.startswith("@"):
            yield name, value
    yield from _attributes(root)


def _walk(data: Iterable[Any]) -> Iterator[Fact]:
    """Yield properties and texts of nested objects, depth first."""
    pending: list[tuple[str, Any, int]] = [("", value, 0) for value in reversed(list(data))]
    while pending:
        name, value, depth = pending.pop()
        if isinstance(value, dict):
            inner: list[tuple[str, Any]] = [(str(k), v) for k, v in value.items()]  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
        elif isinstance(value, list):
            inner = [(name, v) for v in value]  # pyright: ignore[reportUnknownVariableType]
        else:
            if name and isinstance(value, str | int | float) and not isinstance(value, bool):
                yield name, folded(html.unescape(str(value)))
            continue
        if depth < _DEEPEST and not name.lower().startswith("@c"):
            pending += [(k, v, depth + 1) for k, v in reversed(inner) if not _left_out(k, v)]


def _left_out(name: str, value: Any) -> bool:
    """Pictures and actions have names and texts of their own, which are not the page's."""
    return isinstance(value, dict | list) and name.lower() in _SKIPPED


def _attributes(root: Any) -> Iterator[Fact]:
    for element in root.iter():
        if not element.attrib:
            continue
        name = element.get("itemprop") or element.get("property") or ""
        value = element.get("content")
        if name_of(element) == "meta" and not element.get("itemprop"):
            name = name or element.get("name") or element.get("http-equiv") or ""
            if not _CONTACT_META.search(name):
                continue
        if name and value:
            short = name.split()[-1].rpartition(":")[2] if name.split() else ""
            if short and short.lower() not in _SKIPPED:
                yield short, folded(value)


def lines(found: Iterable[Fact], text: str) -> list[str]:
    """Return ``name: value`` of the facts that the text does not hold yet, each once."""
    facts = list(islice(found, MOST_READ))
    if not facts:
        return []
    said, words = _bare(text), set(_NOT_WORD.split(text.casefold()))
    written: dict[str, str] = {}
    for name, value in facts:
        bare = _bare(value)
        if not bare or bare in written or len(value) > MOST_CHARACTERS or _names_file(value):
            continue
        # A short value is in nearly every text by chance, unless it stands there as a word.
        if bare not in (words if len(bare) < 5 else said):
            written[bare] = f"{name}: {value}"
        if len(written) == MOST_FACTS:
            break
    return list(written.values())


def _names_file(value: str) -> bool:
    return value.startswith(("http://", "https://", "//", "data:"))


def _bare(text: str) -> str:
    return _NOT_WORD.sub("", text).casefold()
