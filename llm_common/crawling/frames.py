"""Byte strings through a pipe, three at a time: what a reader of pages is sent and answers."""

from __future__ import annotations

import struct
from asyncio import StreamReader
from typing import BinaryIO

Frame = tuple[bytes, bytes, bytes]

_LENGTHS = struct.Struct("<III")


def framed(*parts: bytes) -> bytes:
    """Return three byte strings as they are written."""
    return b"".join((_LENGTHS.pack(*map(len, parts)), *parts))


def read_frame(pipe: BinaryIO) -> Frame | None:
    """Wait for the next frame of a pipe; None at its end, and where a frame breaks off."""
    head = pipe.read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    lengths = _LENGTHS.unpack(head)
    body = pipe.read(sum(lengths))
    return _parts(body, lengths) if len(body) == sum(lengths) else None


async def next_frame(stream: StreamReader) -> Frame:
    """Return the next frame of a stream.

    Raises:
        IncompleteReadError: it ended.
    """
    lengths = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
    return _parts(await stream.readexactly(sum(lengths)), lengths)


def _parts(body: bytes, lengths: tuple[int, ...]) -> Frame:
    first, second, _ = lengths
    return body[:first], body[first : first + second], body[first + second :]
