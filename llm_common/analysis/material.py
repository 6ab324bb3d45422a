"""The material of an analysis: its sources as the model sees them, and whether they suffice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .models import Source

MIN_WORDS = 60
"""Fewer distinct words than this, over all sources, are no basis for an analysis."""

EXCERPT_CHARS = 12_000
"""How much of the text the research sees: titles, findings and definitions stand first."""

_CLOSING = re.compile(r"</(\s*source)", re.IGNORECASE)
_WORD = re.compile(r"\w{2,}")


def subject_source(title: str, text: str) -> Source:
    """Return the text under analysis as the first source, `bill`."""
    return Source(id="bill", title=title, text=text)


def found_sources(results: Iterable[Sequence[Mapping[str, Any]]]) -> list[Source]:
    """Return search results as sources `s1`, `s2`, …: each URL once, in order of the queries."""
    sources: dict[str, Source] = {}
    for result in (r for page in results for r in page):
        text = result.get("content") or result.get("snippet") or ""
        if result["url"] not in sources and text.strip():
            sources[result["url"]] = Source(
                id=f"s{len(sources) + 1}", title=result["title"], url=result["url"], text=text
            )
    return list(sources.values())


def lack(sources: Sequence[Source]) -> str | None:
    """Say in what the sources are too thin to analyse, or None if they suffice."""
    words = {word.casefold() for source in sources for word in _WORD.findall(source.text)}
    if len(words) >= MIN_WORDS:
        return None
    return f"{len(words)} distinct words in {len(sources)} sources, where {MIN_WORDS} are the least"


def tagged(sources: Sequence[Source]) -> str:
    """Return the sources as marked material; a source can't close its own mark."""
    return "\n\n".join(_tag(source) for source in sources)


def _tag(source: Source) -> str:
    url = f' url="{escape(source.url)}"' if source.url else ""
    text = _CLOSING.sub(r"< /\1", source.text)
    return f'<source id="{source.id}" title="{escape(source.title)}"{url}>\n{text}\n</source>'
