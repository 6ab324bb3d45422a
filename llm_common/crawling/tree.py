"""A page as an lxml tree, parsed once; every reader of a page walks the same tree."""

from __future__ import annotations

import re
from typing import Any

from ..extras import require

# What XML forbids; HTML drops NUL, and the others are never text.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufdd0-\ufdef\ufffe\uffff]")
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_BLOATED = re.compile(r"<([a-z][a-z0-9-]*)\s[^<>]{16384,}>", re.IGNORECASE)
"""Tags of very many attributes, for which libxml2 takes quadratic time."""
_NESTING = re.compile(
    r"(?:\s*</?(?!(?:a|p|br|hr|title|meta|html|head|body|script|style|base|link|h[1-6])\b)[a-z][^<>]*>)+",
    re.IGNORECASE,
)
_TAGS = re.compile(r"(?:\s*<[^<>]*>)+")
_SPACE = re.compile(r"\s{2,}|[^\S ]")
MARKED = re.compile(r"<\s*[a-z!/?]", re.IGNORECASE)


def parse(text: str) -> Any | None:
    """Parse HTML, XHTML or what stands for it; None when there is nothing in it.

    Elements nested more than 255 deep (unclosed `font`s on old pages, or malice) end libxml2's
    parse; such a page is parsed again without the tags that nest, as paragraphs and links, and if
    these nest too, as words. So no tree is deep enough to exhaust the stack of who walks it.
    """
    cleaned = _BLOATED.sub(r"<\1>", _FORBIDDEN.sub("", _XML_DECLARATION.sub("", text)))
    root, too_deep = _parse(cleaned)
    for nesting in (_NESTING, _TAGS):
        if too_deep:
            root, too_deep = _parse(nesting.sub("\n", cleaned))
    return root


def _parse(text: str) -> tuple[Any | None, bool]:
    etree, html = require("lxml.etree", "pages"), require("lxml.html", "pages")
    # A parser of its own per page: its error log is read, and threads share nothing.
    parser = html.HTMLParser(
        encoding="utf-8",
        no_network=True,
        collect_ids=False,
        default_doctype=False,
        remove_comments=True,
        remove_pis=True,
    )
    # One class for all elements: lxml.html's own lookup is Python, called for each.
    parser.set_element_class_lookup(etree.ElementDefaultClassLookup(element=html.HtmlElement))
    try:
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:
        return None, False
    limit = etree.ErrorTypes.ERR_RESOURCE_LIMIT
    return root, any(entry.type == limit for entry in parser.error_log)


def name_of(element: Any) -> str:
    """Return the tag in lower case; comments and instructions have none."""
    tag = element.tag
    return tag.lower() if isinstance(tag, str) else ""


def folded(text: str | None) -> str:
    """Return text on one line."""
    return _SPACE.sub(" ", text or "").strip()


def words_of(element: Any) -> str:
    """Return all that an element says, on one line."""
    return folded("".join(element.itertext()))
