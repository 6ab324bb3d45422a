"""PDF, by PDFium."""

from __future__ import annotations

import re
import threading
from typing import Any

from .extra import require
from .models import Parsed, UnreadableError

PASSWORD_ERROR = 4
"""PDFium's FPDF_ERR_PASSWORD."""

_BROKEN_WORD = re.compile("[\x02\ufffe]\r?\n?")
_pdfium = threading.Lock()
"""PDFium must not be called by two threads at once."""


def read_pdf(raw: bytes) -> Parsed:
    """Read the text of all pages; a blank line stands between pages.

    Raises:
        UnreadableError: encrypted, damaged, or without a text layer.
    """
    pypdfium2 = require("pypdfium2")
    with _pdfium:
        try:
            return _parse(pypdfium2.PdfDocument(raw))
        except pypdfium2.PdfiumError as error:
            encrypted = getattr(error, "err_code", None) == PASSWORD_ERROR
            why = "is encrypted; save it without a password" if encrypted else "is a damaged PDF"
            raise UnreadableError(why) from error


def _parse(pdf: Any) -> Parsed:
    try:
        pages = [_page_text(page) for page in pdf]
        title = pdf.get_metadata_value("Title")
    finally:
        pdf.close()
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise UnreadableError("is a PDF without text: a scan needs text recognition first")
    return Parsed(text, title.strip())


def _page_text(page: Any) -> str:
    layer = page.get_textpage()
    try:
        text: str = layer.get_text_bounded()
    finally:
        layer.close()
        page.close()
    joined = _BROKEN_WORD.sub("", text).replace("\0", "")
    return joined.replace("\r\n", "\n").replace("\r", "\n").strip()
