"""One page of HTML as Markdown, full text, links and dates."""

from __future__ import annotations

from typing import Any

from . import about, structured_data
from .charset import decode
from .full_text import full_text
from .links import base_of, canonical, links
from .models import PageContent, Reason
from .prose import prose
from .tree import parse

MOST_BYTES = 10_000_000
"""A larger page is refused."""

_BINARY_SAMPLE = 2048
_MARKS = (b"<html", b"<!doctype", b"<body")
_MAGIC = (b"%PDF-", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b", b"\x7fELF")


def extract(html: bytes | str, url: str | None = None) -> PageContent:
    """Read a page; never raises, whatever the bytes.

    Args:
        html: bytes are decoded by what the page and its bytes say of their charset.
        url: where it came from, for links that are relative.

    Returns:
        The page. Its `reason` is `EMPTY` where it says nothing, `UNSUPPORTED_TYPE` for binary
        bytes, `TOO_LARGE` above 10 MB, as it came or in UTF-8.
    """
    if len(html) > MOST_BYTES:
        return PageContent(url=url, reason=Reason.TOO_LARGE)
    if isinstance(html, bytes):
        if is_binary(html):
            return PageContent(url=url, reason=Reason.UNSUPPORTED_TYPE)
        html = decode(html)
    if len(html) * 4 > MOST_BYTES and len(html.encode("utf-8", "replace")) > MOST_BYTES:
        return PageContent(url=url, reason=Reason.TOO_LARGE)
    root = parse(html)
    if root is None:
        return PageContent(url=url, reason=Reason.EMPTY)
    return _content(root, url)


def is_binary(body: bytes) -> bool:
    """Whether bytes are no text in any charset: a known format, or many control characters."""
    if body.startswith(_MAGIC):
        return True
    head = body[:_BINARY_SAMPLE]
    if any(mark in head.lower() for mark in _MARKS):
        return False
    # UTF-16 is half NULs, all of them in one half.
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff")) or not (
        head[::2].count(0) and head[1::2].count(0)
    )
    control = sum(
        1 for byte in head.replace(b"\0", b"") if byte < 32 and byte not in b"\t\n\r\f\x1b"
    )
    nuls = 0 if wide else head.count(0)
    return (control + nuls) * 20 > len(head)


def _content(root: Any, url: str | None) -> PageContent:
    data = structured_data.json_ld(root)
    meta = about.meta_of(root)
    title = about.title_of(root, meta)
    shown = full_text(root)
    said = "\n".join(filter(None, (title, shown)))
    facts = structured_data.lines(structured_data.facts(root, data), said)
    text = "\n".join(filter(None, (said if title not in shown else shown, *facts)))
    if not text:
        return PageContent(url=url, reason=Reason.EMPTY)
    base = base_of(root, url)
    return PageContent(
        url=url,
        title=title,
        markdown=prose(root, shown) or shown,
        text=text,
        links=links(root, base),
        language=about.language_of(root, meta),
        published=about.published_of(root, meta, data),
        modified=about.modified_of(meta, data),
        canonical_url=canonical(root, base),
    )
