"""From a path to a `Document`; the content decides what a file is, then its suffix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..errors import DocumentError
from . import markup, plain
from .models import Document, Parsed, UnreadableError

MAX_BYTES = 50 * 1024 * 1024
TITLE_LENGTH = 200

Reader = Callable[[bytes], Parsed]


def load_document(path: str | Path) -> Document:
    """Read a document.

    Args:
        path: a file of text, Markdown, HTML, USLM XML or PDF, of at most 50 MB.

    Raises:
        DocumentError: the file is missing, a folder, empty, too large, binary, undecodable,
            encrypted, damaged or without text; the message names it.
        MissingExtraError: the extra `documents` is not installed and the format needs it.
    """
    file = Path(path)
    raw = _read(file)
    media_type, reader = _recognise(raw, file.suffix.lower())
    try:
        parsed = reader(raw)
    except UnreadableError as error:
        raise DocumentError(f"{file} {error}") from error
    if not parsed.text.strip():
        raise DocumentError(f"{file} holds no text")
    return Document(
        id=parsed.id or file.stem,
        title=_shortened(parsed.title or plain.first_line(parsed.text) or file.stem),
        text=parsed.text,
        media_type=media_type,
        sha256=hashlib.sha256(raw).hexdigest(),
        source=str(path),
    )


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise DocumentError(f"{file} is a folder; name a file in it")
    if not file.is_file():
        raise DocumentError(f"{file} does not exist")
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"{file} can't be opened: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise DocumentError(f"{file} is larger than 50 MB; split it")
    if not raw:
        raise DocumentError(f"{file} is empty")
    return raw


def _recognise(raw: bytes, suffix: str) -> tuple[str, Reader]:
    head = raw[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"%pdf-") or suffix == ".pdf":
        return "application/pdf", _read_pdf
    if head.startswith((b"<!doctype html", b"<html")):
        return "text/html", markup.read_html
    if head.startswith(b"<?xml") or suffix == ".xml":
        if b"<html" in head:
            return "text/html", markup.read_html
        return "application/xml", markup.read_uslm
    if suffix in (".html", ".htm"):
        return "text/html", markup.read_html
    if suffix in (".md", ".markdown"):
        return "text/markdown", plain.read_markdown
    return "text/plain", plain.read_text


def _read_pdf(raw: bytes) -> Parsed:
    from .pdf import read_pdf

    return read_pdf(raw)


def _shortened(title: str) -> str:
    folded = " ".join(title.split())
    return folded if len(folded) <= TITLE_LENGTH else folded[: TITLE_LENGTH - 1] + "…"
