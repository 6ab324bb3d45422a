"""What a page says of itself: title, language, dates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .structured_data import values_of
from .tree import folded, words_of

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*")
_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_PUBLISHED = (
    "article:published_time", "datepublished", "og:published_time", "dc.date.issued",
    "dcterms.created", "dc.date", "date", "pubdate", "publishdate", "publish-date",
    "parsely-pub-date", "sailthru.date", "citation_publication_date",
)  # fmt: skip
_MODIFIED = (
    "article:modified_time", "datemodified", "og:updated_time", "dcterms.modified",
    "last-modified", "lastmod", "revised",
)  # fmt: skip

Meta = dict[str, str]


def meta_of(root: Any) -> Meta:
    """Return the contents of the meta tags by lower-case name; the first of a name counts."""
    found: Meta = {}
    for element in root.iter("meta"):
        content = folded(element.get("content"))
        for attribute in ("property", "name", "itemprop", "http-equiv"):
            name = element.get(attribute)
            if name and content:
                found.setdefault(name.strip().lower(), content)
    return found


def title_of(root: Any, meta: Meta) -> str:
    """Return the page's title, else what it calls itself when shared, else its first heading."""
    titles = (words_of(e) for e in root.iter("title") if not _drawn(e))
    headings = (words_of(e) for e in root.iter("h1"))
    first = next(filter(None, titles), "")
    return first or meta.get("og:title", "") or next(filter(None, headings), "")


def _drawn(element: Any) -> bool:
    return any(True for _ in element.iterancestors("svg"))


def language_of(root: Any, meta: Meta) -> str | None:
    """Return the declared language as a tag such as ``en-US``."""
    declared = (
        root.get("lang"),
        root.get("{http://www.w3.org/XML/1998/namespace}lang") or root.get("xml:lang"),
        meta.get("content-language"),
        meta.get("language") or meta.get("dc.language"),
        meta.get("og:locale"),
    )
    for value in declared:
        tag = (value or "").split(",")[0].strip().replace("_", "-")
        if _LANGUAGE.fullmatch(tag):
            return tag
    return None


def published_of(root: Any, meta: Meta, data: Iterable[Any]) -> str | None:
    """Return when the page says it was published: JSON-LD, then meta tags, then `time`."""
    said = [*_said(data, "datePublished"), *_named(meta, _PUBLISHED), *_times(root)]
    return _first_date((*said, *_said(data, "uploadDate"), *_said(data, "dateCreated")))


def modified_of(meta: Meta, data: Iterable[Any]) -> str | None:
    """Return when the page says it was last changed: JSON-LD, then meta tags."""
    return _first_date((*_said(data, "dateModified"), *_named(meta, _MODIFIED)))


def _said(data: Iterable[Any], name: str) -> Iterator[str]:
    return values_of(data, name)


def _named(meta: Meta, names: Iterable[str]) -> Iterator[str]:
    return (meta[name] for name in names if name in meta)


def _times(root: Any) -> list[str]:
    """Return the moments of `time` elements, those that are marked as publication first."""
    every = [e for e in root.iter() if e.tag == "time" or e.get("itemprop") == "datePublished"]
    marked = [e for e in every if e.get("pubdate") is not None or e.get("itemprop")]
    in_article = [e for e in every if any(True for _ in e.iterancestors("article", "main"))]
    return [e.get("datetime") or words_of(e) for e in (*marked, *in_article)]


def _first_date(values: Iterable[str]) -> str | None:
    return next((found for value in values if (found := iso_date(value))), None)


def iso_date(text: str) -> str | None:
    """Write a date or a moment as ISO 8601 does; None for what is no full date of our era."""
    value = text.strip()
    try:
        moment = datetime.fromisoformat(value)
        plain = len(value) <= 10
        return moment.date().isoformat() if plain else moment.isoformat()
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).isoformat()
    except (ValueError, TypeError, IndexError):
        pass
    if numbers := _DATE.search(value):
        try:
            return date(*(int(n) for n in numbers.groups())).isoformat()
        except ValueError:
            return None
    return None
