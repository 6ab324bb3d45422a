"""The links of a page: absolute, without fragment, each URL once."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urldefrag, urljoin

from .models import Link
from .tree import folded, name_of, words_of

_DROPPED = re.compile(r"[\t\n\r]")
"""What the URL standard removes from anywhere in a URL."""
_WITH_TARGET = ("a", "area", "frame")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]+)?(?=/|$)")
_PLAIN = re.compile(
    rf"({_ORIGIN.pattern})?(?!//)(?:/(?!\.)[\w.~%&=+,:@!$'()*-]*)+(?:\?[\w/.~%&=+,:@!$'()*-]+)?",
    re.ASCII,
)
"""Absolute URLs and paths that joining and cutting would leave as they are."""
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def base_of(root: Any, url: str | None) -> str:
    """Return what relative links are relative to: the first `base` of the page, else its URL."""
    for element in root.iter("base"):
        if href := element.get("href"):
            return absolute(url or "", href) or url or ""
    return url or ""


def absolute(base: str, href: str) -> str | None:
    """Return an http(s) URL without its fragment; None for what is no such link."""
    if plain := _PLAIN.fullmatch(href.partition("#")[0]):
        if plain[1]:
            return plain[0]
        if origin := _ORIGIN.match(base):
            return origin[0] + plain[0]
    target = _DROPPED.sub("", href).strip()
    if _SCHEME.match(target) and not target[:5].lower().startswith("http"):
        return None
    try:
        found = urldefrag(urljoin(base, target)).url
    except ValueError:
        return None
    return found if found.startswith(("http://", "https://")) else None


def links(root: Any, base: str) -> tuple[Link, ...]:
    """Collect the links in the order of the page; the first that has words gives the words."""
    found: dict[str, Link] = {}
    for element in root.iter(*_WITH_TARGET):
        href = element.get("src" if name_of(element) == "frame" else "href")
        target = absolute(base, href) if href is not None else None
        if target is None:
            continue
        known = found.get(target)
        if known is None or not known.text:
            found[target] = Link(url=target, text=_words(element), rel=folded(element.get("rel")))
    return tuple(found.values())


def canonical(root: Any, base: str) -> str | None:
    """Return the URL by which the page wants to be known."""
    for element in root.iter("link"):
        if "canonical" in (element.get("rel") or "").lower().split():
            return absolute(base, element.get("href") or "")
    for element in root.iter("meta"):
        if (element.get("property") or "").lower() == "og:url":
            return absolute(base, element.get("content") or "")
    return None


def _words(element: Any) -> str:
    """Return what a link stands on: its text, else what its picture or title says."""
    if text := words_of(element):
        return text
    for inner in element.iter():
        for attribute in ("alt", "aria-label", "title"):
            if said := folded(inner.get(attribute)):
                return said
    return ""
