"""PDF as text, by PDFium in a child process, which can be killed."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import telemetry
from ..extras import require
from .models import PageContent, Reason

MOST_BYTES = 50_000_000
MOST_SECONDS = 60.0

_CHILD = Path(__file__).with_name("pdf_child.py")
_DATE = re.compile(r"D:(\d{4})(\d{2})(\d{2})")
_HEADER_WITHIN = 1024
"""Bytes before the header that readers put up with (ISO 32000-1, annex H)."""


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


def read_pdf(body: bytes, url: str | None = None, *, seconds: float = MOST_SECONDS) -> PageContent:
    """Read a PDF as a page; never raises, whatever the bytes.

    Args:
        url: where it came from.
        seconds: after which it is given up.

    Returns:
        The text of all pages, as `text` and as `markdown`; a blank line stands between pages. Or
        a reason: `ENCRYPTED`, `DAMAGED`, `NO_TEXT` (a scan), `EMPTY` (no bytes), `TOO_LARGE`
        (over 50 MB, 2,000 pages, 20 million characters, the time, or 1 GiB of memory).

    Raises:
        MissingExtraError: the extra `pages` is not installed.
    """
    found = pdf_text(body, seconds)
    return PageContent(
        url=url,
        reason=found.reason,
        title=found.title,
        markdown=found.text,
        text=found.text,
        published=_date(found.created),
        modified=_date(found.modified),
    )


def pdf_text(body: bytes, seconds: float = MOST_SECONDS) -> PdfText:
    """Read the text of all pages, in a process of its own; about 0.1 s go to its start."""
    require("pypdfium2", "pages")
    if not body:
        return PdfText(Reason.EMPTY)
    if len(body) > MOST_BYTES:
        return PdfText(Reason.TOO_LARGE)
    # -P: modules beside the script don't stand in for those of the standard library.
    command = [sys.executable, "-P", str(_CHILD), str(int(seconds) + 1)]
    try:
        ended = subprocess.run(
            command, input=body, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return PdfText(Reason.TOO_LARGE)
    if ended.returncode != 0:
        return PdfText(_broken_off(ended.returncode))
    answer: dict[str, str] = json.loads(ended.stdout)
    return PdfText(Reason(answer.pop("reason")), **answer)


def _broken_off(status: int) -> Reason:
    """Say what it means that the child did not answer."""
    telemetry.event("pdf_broken_off", level=logging.WARNING, status=status)
    # A negative status is a signal. PDFium ends its process when it is denied memory; only a
    # segmentation fault, or an error of Python's, is the file's fault.
    return Reason.DAMAGED if status in {1, -signal.SIGSEGV} else Reason.TOO_LARGE


def _date(text: str) -> str | None:
    """Write a PDF date such as ``D:20180131…`` as ISO 8601; None if the day is missing."""
    found = _DATE.match(text)
    return "-".join(found.groups()) if found else None
