"""What a page says to machines, a line for each thing that has a name.

The extractor's full text has these facts without whose they are; a number that is the office's must
not become a person's, so they are written once more, each beside its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ..crawling.charset import decode
from ..crawling.structured_data import json_ld
from ..crawling.tree import folded, parse

MOST_LINES = 200
_DEEPEST = 12
_TOLD = (
    "telephone", "faxNumber", "email", "jobTitle", "honorificPrefix", "birthDate", "foundingDate",
    "url", "streetAddress", "addressLocality", "addressRegion", "postalCode", "addressCountry",
    "address", "numberOfEmployees", "affiliation", "memberOf", "openingHours", "contactType",
    "legalName",
)  # fmt: skip
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def entity_lines(body: bytes) -> list[str]:
    """Return lines such as ``John Smith | telephone: 916-319-2024``; none without JSON-LD."""
    if b"ld+json" not in body:
        return []
    root = parse(decode(body))
    if root is None:
        return []
    lines = (line for found in json_ld(root) for line in _lines(found, 0))
    return list(dict.fromkeys(line for _, line in zip(range(MOST_LINES), lines, strict=False)))


def _lines(value: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _lines(one, depth + 1)
    elif isinstance(value, dict):
        thing = cast("dict[str, Any]", value)
        name = thing.get("name")
        facts = list(_facts(thing, 0)) if isinstance(name, str) and name.strip() else []
        if facts:
            yield " | ".join([folded(str(name)), *facts])
        for inner in thing.values():
            yield from _lines(inner, depth + 1)


def _facts(thing: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the facts of a thing, and of its parts that have no name, such as its address."""
    for name, value in thing.items():
        values: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        for one in values:
            if isinstance(one, dict):
                part = cast("dict[str, Any]", one)
                if "name" not in part and depth < _DEEPEST:
                    yield from _facts(part, depth + 1)
                elif name in _TOLD:
                    yield f"{_spaced(name)}: {folded(str(part.get('name')))}"
            elif name in _TOLD and isinstance(one, str | int | float) and str(one).strip():
                yield f"{_spaced(name)}: {folded(str(one)).removeprefix('mailto:')}"


def _spaced(name: str) -> str:
    return _WORDS.sub(" ", name).lower()
