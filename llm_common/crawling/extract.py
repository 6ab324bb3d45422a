"""One page of HTML as Markdown, full text, links and dates."""

from __future__ import annotations

from urllib.parse import urldefrag, urljoin

from .extra import require
from .models import Link, PageContent, Reason


def extract(html: bytes | str, url: str | None = None) -> PageContent:
    """Read a page.

    Args:
        html: bytes are decoded by what the page and its bytes say of their charset.
        url: where it came from, for links that are relative.
    """
    parser = require("selectolax.lexbor").LexborHTMLParser(html)
    trafilatura = require("trafilatura")
    body = parser.body
    text = body.text(separator="\n", strip=True) if body else ""
    if not text:
        return PageContent(url=url, reason=Reason.EMPTY)
    markdown = trafilatura.extract(html, url=url, output_format="markdown") or ""
    found: dict[str, Link] = {}
    for node in parser.css("a[href]"):
        target = urldefrag(urljoin(url or "", node.attributes["href"] or "")).url
        if target.startswith(("http://", "https://")):
            found.setdefault(target, Link(url=target, text=node.text(strip=True)))
    title = parser.css_first("title")
    return PageContent(
        url=url,
        title=title.text(strip=True) if title else "",
        markdown=markdown,
        text=text,
        links=tuple(found.values()),
    )
