"""PDF: the text of `crawling.pdf`, with what a person can do where there is none."""

from __future__ import annotations

from ..crawling.models import Reason
from ..crawling.pdf import pdf_text
from ..extras import require
from .models import Parsed, UnreadableError

_WHY = {
    Reason.ENCRYPTED: "is encrypted; save it without a password",
    Reason.DAMAGED: "is a damaged PDF",
    Reason.EMPTY: "is empty",
    Reason.NO_TEXT: "is a PDF without text: a scan needs text recognition first",
    Reason.TOO_LARGE: "is a PDF too large to read; split it",
}


def read_pdf(raw: bytes) -> Parsed:
    """Read the text of all pages; a blank line stands between pages.

    Raises:
        UnreadableError: encrypted, damaged, too large, or without a text layer.
    """
    require("pypdfium2", "documents")  # so that its absence names the extra `documents`
    found = pdf_text(raw)
    if found.reason is not Reason.FETCHED:
        raise UnreadableError(_WHY[found.reason])
    return Parsed(found.text, found.title)
