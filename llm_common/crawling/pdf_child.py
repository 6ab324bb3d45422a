"""The text of one PDF, read in a process of its own: a PDF on stdin, JSON on stdout.

A PDF of 2 kB can keep PDFium busy for days (forms that draw forms that draw forms) and one of
5 MB can take all memory (compressed operators), and PDFium can't be interrupted. So it runs where
it can be killed. This file is run as a script and imports nothing of the package: a quick start.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from typing import Any

MOST_PAGES = 2000
MOST_CHARACTERS = 20_000_000
MOST_MEMORY = 1024**3
"""Bytes of address space, where the system has such a limit."""

PASSWORD_ERRORS = frozenset((4, 5))
"""PDFium's FPDF_ERR_PASSWORD and FPDF_ERR_SECURITY (fpdfview.h)."""

_BROKEN_WORD = re.compile("[\x02\ufffe]\r?\n?")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def pdf_text(body: bytes) -> dict[str, str]:
    """Return `reason`, a value of `Reason`, and with ``fetched`` the text and what it is about."""
    pdfium: Any = importlib.import_module("pypdfium2")
    try:
        document = pdfium.PdfDocument(body)
        return _read(document)
    except pdfium.PdfiumError as error:
        locked = getattr(error, "err_code", None) in PASSWORD_ERRORS
        return {"reason": "encrypted" if locked else "damaged"}


def _read(document: Any) -> dict[str, str]:
    count: int = len(document)
    if count > MOST_PAGES:
        return {"reason": "too_large"}
    pages: list[str] = []
    left = MOST_CHARACTERS
    for number in range(count):
        page = cleaned(_page_text(document, number))
        left -= len(page)
        if left < 0:
            return {"reason": "too_large"}
        pages.append(page)
    text = "\n\n".join(filter(None, pages))
    if not text:
        return {"reason": "no_text"}
    about: dict[str, str] = document.get_metadata_dict()
    title = cleaned(about.get("Title", ""))
    created, modified = about.get("CreationDate", ""), about.get("ModDate", "")
    return {
        "reason": "fetched", "text": text, "title": title, "created": created, "modified": modified
    }  # fmt: skip


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


def cleaned(text: str) -> str:
    """Join words that PDFium marks as broken at a line's end; newlines are the only control."""
    joined = _BROKEN_WORD.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", joined).strip()


def main() -> None:
    """Answer one document; `seconds` of processor time are the argument."""
    _limit(int(sys.argv[1]))
    try:
        answer = pdf_text(sys.stdin.buffer.read())
    except MemoryError:
        answer = {"reason": "too_large"}
    sys.stdout.write(json.dumps(answer))


def _limit(seconds: int) -> None:
    """Bound what a process whose parent was killed could still take."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
