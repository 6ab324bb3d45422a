"""From what was fetched to what it says, whatever kind of content it is."""

from __future__ import annotations

import re

from .charset import decode
from .extract import MOST_BYTES, extract, is_binary
from .models import Fetched, PageContent, Reason
from .pdf import is_pdf, read_pdf
from .tree import MARKED

_PAGE_TYPES = frozenset(("text/html", "application/xhtml+xml"))
_TEXT_TYPE = re.compile(
    r"text/[\w.+-]+|application/(?:[\w.-]+\+)?(?:json|xml|yaml|x-ndjson|rtf|javascript)"
)
_UNKNOWN_TYPES = frozenset(
    ("", "application/octet-stream", "binary/octet-stream", "unknown/unknown")
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_PAGE_START = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)


def read_page(fetched: Fetched) -> PageContent:
    """Read what a fetch gave: HTML, XHTML, PDF, and plain text, JSON and XML as they are.

    The bytes count before the header: servers send PDFs as HTML, and pages as anything. Where
    both say nothing, it is `UNSUPPORTED_TYPE`. A fetch without a body keeps its reason.

    Raises:
        MissingExtraError: the extra `pages` is not installed.
    """
    url, body = fetched.final_url, fetched.body
    if fetched.reason is not Reason.FETCHED:
        return PageContent(url=url, reason=fetched.reason)
    if is_pdf(body):
        return read_pdf(body, url)
    if fetched.content_type == "application/pdf":
        return PageContent(url=url, reason=Reason.DAMAGED if body else Reason.EMPTY)
    if len(body) > MOST_BYTES:
        return PageContent(url=url, reason=Reason.TOO_LARGE)
    if is_binary(body):
        return PageContent(url=url, reason=Reason.UNSUPPORTED_TYPE)
    return _read_text(fetched, decode(body, _charset(fetched)))


def _read_text(fetched: Fetched, text: str) -> PageContent:
    kind, url = fetched.content_type, fetched.final_url
    if kind in _PAGE_TYPES or _PAGE_START.match(text[:4096]):
        return extract(text, url)
    if kind in _UNKNOWN_TYPES and MARKED.search(text[:4096]):
        return extract(text, url)
    if kind not in _UNKNOWN_TYPES and not _TEXT_TYPE.fullmatch(kind):
        return PageContent(url=url, reason=Reason.UNSUPPORTED_TYPE)
    plain = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").strip()
    if not plain:
        return PageContent(url=url, reason=Reason.EMPTY)
    return PageContent(url=url, markdown=plain, text=plain)


def _charset(fetched: Fetched) -> str | None:
    found = _CHARSET.search(fetched.headers.get("content-type", ""))
    return found[1] if found else None
