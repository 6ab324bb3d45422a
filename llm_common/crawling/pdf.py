"""PDF as text, by PDFium."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .extra import require
from .models import PageContent, Reason

MOST_BYTES = 50_000_000
MOST_PAGES = 2000
MOST_SECONDS = 60.0
MOST_CHARACTERS = 20_000_000

PASSWORD_ERRORS = frozenset((4, 5))
"""PDFium's FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY (fpdfview.h)."""

_BROKEN_WORD = re.compile("[\x02\ufffe]\r?\n?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_DATE = re.compile(r"D:(\d{4})(\d{2})?(\d{2})?")
_HEADER_WITHIN = 1024
"""Bytes before the header that readers put up with (ISO 32000-1, annex H)."""

_pdfium = threading.Lock()
"""PDFium must not be called by two threads at once; it is held for one page at a time, so that a
long document does not keep others waiting."""


@dataclass(frozen=True, slots=True)
class PdfText:
    """What a PDF says, and how reading it ended: `FETCHED`, or why there is no text."""

    reason: Reason
    text: str = ""
    title: str = ""
    created: str = ""
    modified: str = ""


def is_pdf(body: bytes) -> bool:
    """Whether bytes are a PDF, by their header."""
    return b"%PDF-" in body[:_HEADER_WITHIN]


def read_pdf(body: bytes, url: str | None = None) -> PageContent:
    """Read a PDF as a page; never raises, whatever the bytes.

    Args:
        url: where it came from.

    Returns:
        The text of all pages, as `text` and as `markdown`; a blank line stands between pages. Or
        a reason: `ENCRYPTED`, `DAMAGED`, `NO_TEXT` (a scan, or empty), `TOO_LARGE` (over 50 MB,
        2,000 pages, 20 million characters or 60 seconds).

    Raises:
        MissingExtraError: the extra `pages` is not installed.
    """
    found = pdf_text(body)
    return PageContent(
        url=url,
        reason=found.reason,
        title=found.title,
        markdown=found.text,
        text=found.text,
        published=_date(found.created),
        modified=_date(found.modified),
    )


def pdf_text(body: bytes, *, seconds: float = MOST_SECONDS) -> PdfText:
    """Read the text of all pages within a time.

    The clock is looked at between pages: PDFium can't be interrupted within one.
    """
    if len(body) > MOST_BYTES:
        return PdfText(Reason.TOO_LARGE)
    pdfium = require("pypdfium2")
    try:
        with _pdfium:
            document = pdfium.PdfDocument(body)
    except pdfium.PdfiumError as error:
        locked = getattr(error, "err_code", None) in PASSWORD_ERRORS
        return PdfText(Reason.ENCRYPTED if locked else Reason.DAMAGED)
    try:
        return _read(document, time.monotonic() + seconds)
    except pdfium.PdfiumError:
        return PdfText(Reason.DAMAGED)
    finally:
        with _pdfium:
            document.close()


def _read(document: Any, deadline: float) -> PdfText:
    with _pdfium:
        count: int = len(document)
        about: dict[str, str] = document.get_metadata_dict()
    if count > MOST_PAGES:
        return PdfText(Reason.TOO_LARGE)
    pages: list[str] = []
    left = MOST_CHARACTERS
    for page in _pages(document, count):
        left -= len(page)
        if left < 0 or time.monotonic() > deadline:
            return PdfText(Reason.TOO_LARGE)
        pages.append(page)
    text = "\n\n".join(filter(None, pages))
    if not text:
        return PdfText(Reason.NO_TEXT)
    title = _cleaned(about.get("Title", ""))
    return PdfText(
        Reason.FETCHED, text, title, about.get("CreationDate", ""), about.get("ModDate", "")
    )


def _pages(document: Any, count: int) -> Iterator[str]:
    for number in range(count):
        with _pdfium:
            text = _page_text(document, number)
        yield _cleaned(text)


def _page_text(document: Any, number: int) -> str:
    """Read one page; its objects are closed before the next, or PDFium would hold them all."""
    page = document[number]
    try:
        layer = page.get_textpage()
        try:
            text: str = layer.get_text_bounded()
            return text
        finally:
            layer.close()
    finally:
        page.close()


def _cleaned(text: str) -> str:
    joined = _BROKEN_WORD.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", joined).strip()


def _date(text: str) -> str | None:
    """Write a PDF date such as ``D:20180131…`` as ISO 8601; None if the day is missing."""
    found = _DATE.match(text)
    year, month, day = found.groups() if found else (None, None, None)
    return f"{year}-{month}-{day}" if year and month and day else None
