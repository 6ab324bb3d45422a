"""What a document is, once it is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read.

    Attributes:
        id: how it is cited, such as ``114 S. 32 CDS``; else the file's name without its suffix.
        title: its own title, else its first line, else its name.
        text: all of it in reading order: a line per paragraph where the format knows them.
        media_type: what its content is, whatever its name says.
        sha256: of the file's bytes, in hexadecimal.
        source: the path that it was read from.
    """

    id: str
    title: str
    text: str
    media_type: str
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format knows of a document; an empty id or title is filled in by the loader."""

    text: str
    title: str = ""
    id: str = ""


class UnreadableError(Exception):
    """A format can't read the bytes; says why, and the loader adds which file."""
