"""Text and Markdown."""

from __future__ import annotations

import re

from .models import Parsed, UnreadableError

_BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def read_text(raw: bytes) -> Parsed:
    """Read plain text."""
    return Parsed(decode(raw))


def read_markdown(raw: bytes) -> Parsed:
    """Read Markdown; its mark-up stays, its first heading is the title."""
    text = decode(raw)
    heading = _HEADING.search(text)
    return Parsed(text, heading.group(1) if heading else "")


def decode(raw: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte-order mark; line ends become newlines.

    Raises:
        UnreadableError: the bytes are binary, or in another encoding.
    """
    encoding = next((name for bom, name in _BOMS if raw.startswith(bom)), "utf-8")
    refuse_binary(raw)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableError("is neither UTF-8 nor a known binary format") from error
    if len(_CONTROL.findall(text)) > len(text) / 100:
        raise UnreadableError("is binary, not a document that can be read")
    return _CONTROL.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def refuse_binary(raw: bytes) -> None:
    """Raise `UnreadableError` if the bytes hold a NUL, which only UTF-16 text does."""
    if b"\0" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError("is binary, not a document that can be read")


def first_line(text: str) -> str:
    """Return the first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
