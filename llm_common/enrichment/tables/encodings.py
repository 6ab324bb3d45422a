"""In which encoding a text file is, as its bytes tell."""

from __future__ import annotations

import codecs
from pathlib import Path

from ...errors import InvalidInputError

SAMPLE = 64 * 1024
"""Bytes that are looked at for what the whole file is."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PAR1", b"%PDF", b"\x1f\x8b")
"""How spreadsheets, Parquet, PDF and gzip begin."""


def encoding_of(path: Path) -> str:
    """Return Python's name of a file's encoding: UTF-8, UTF-16, or else Windows-1252.

    All of the file is read: what is UTF-8 up to its last line may not be in that.

    Raises:
        InvalidInputError: it is empty, no text, or in another encoding.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    if not start.strip():
        raise InvalidInputError(f"{path.name} is empty: its first line must name the columns")
    if start.startswith(NO_TEXT):
        raise InvalidInputError(
            f"{path.name} is no text file: give it the ending of what it is, such as .xlsx"
        )
    for mark, encoding in MARKS:
        if start.startswith(mark):
            return encoding
    if b"\0" in start:
        return _unmarked_utf16(start, path)
    return _utf8_or_1252(path)


def _unmarked_utf16(start: bytes, path: Path) -> str:
    """Tell the byte order by where the zeros of ASCII characters stand."""
    low, high = start[1::2].count(0), start[0::2].count(0)
    if low > len(start) // 4 and not high:
        return "utf-16-le"
    if high > len(start) // 4 and not low:
        return "utf-16-be"
    raise InvalidInputError(f"{path.name} is no text file: save the table as CSV in UTF-8")


def _utf8_or_1252(path: Path) -> str:
    proven, wrong = False, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                proven = True
            except UnicodeDecodeError:
                wrong = wrong or number
    if not wrong:
        return "utf-8"
    # Letters of other lines would be garbled, were the file taken for Windows-1252.
    if proven:
        raise InvalidInputError(
            f"{path.name} is UTF-8, but line {wrong} of it is not: save all of it as UTF-8"
        )
    return "cp1252"
