"""The browser's only way out: a proxy on loopback that connects to addresses which may be asked.

A page can redirect, load frames and open sockets; the browser resolves none of their names itself,
so the address that is checked here is the one that is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from urllib.parse import urlsplit

from .addresses import Guard, PrivateAddressError
from .models import Reason

REASON_HEADER = "x-llm-common-reason"
_LONGEST_HEAD = 64 * 1024
_CHUNK = 64 * 1024
_CONNECT_S = 15.0
_MOST_REASONS = 1_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """The first line of a request and what it leads to."""

    method: str
    host: str
    port: int
    path: str
    headers: list[bytes]


class GuardProxy:
    """An HTTP proxy that holds every connection to a guard and to a number of bytes.

    Attributes:
        reasons: why a host and port could not be reached, the last time.

    Args:
        most_bytes: that one connection may bring; then it is cut.
    """

    def __init__(self, guard: Guard, most_bytes: int) -> None:
        self.reasons: dict[tuple[str, int], Reason] = {}
        self._guard = guard
        self._most_bytes = most_bytes
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen on a free port of loopback and return the proxy's URL."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_LONGEST_HEAD)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def aclose(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        # Closed, not cancelled: whoever reads sees the end and goes.
        for writer in list(self._open):
            writer.close()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with self._closing(writer):
                await self._serve(reader, writer)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            # The browser went away or spoke no HTTP: there is nobody to tell.
            return

    @contextlib.contextmanager
    def _closing(self, writer: asyncio.StreamWriter) -> Generator[None]:
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = _asked(await reader.readuntil(b"\r\n\r\n"))
        try:
            there = await asyncio.wait_for(self._connect(asked), _CONNECT_S)
        except (OSError, UnicodeError) as error:
            reason = _reason(error)
            self._remember((asked.host, asked.port), reason)
            writer.write(_refusal(reason))
            await writer.drain()
            return
        their_reader, their_writer = there
        with self._closing(their_writer):
            if asked.method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                their_writer.write(_head(asked))
            await self._both_ways((reader, their_writer), (their_reader, writer))

    def _remember(self, place: tuple[str, int], reason: Reason) -> None:
        """Keep the last reasons: a page may ask for names without end."""
        self.reasons[place] = reason
        if len(self.reasons) > _MOST_REASONS:
            del self.reasons[next(iter(self.reasons))]

    async def _connect(self, asked: _Asked) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first address that answers; every address must be one to ask."""
        failed: OSError = OSError("no address")
        for address in await self._guard.resolve(asked.host, asked.port):
            try:
                return await asyncio.open_connection(address, asked.port)
            except OSError as error:
                failed = error
        raise failed

    async def _both_ways(
        self,
        out: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        back: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        sending = asyncio.create_task(_pipe(*out, self._most_bytes))
        try:
            await _pipe(*back, self._most_bytes)
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sending


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
    passed = 0
    while passed < most and (chunk := await reader.read(_CHUNK)):
        passed += len(chunk)
        writer.write(chunk)
        await writer.drain()


def _asked(raw: bytes) -> _Asked:
    """Read the head of a request to a proxy.

    Raises:
        ValueError: it is none.
    """
    first, *headers = raw.rstrip(b"\r\n").split(b"\r\n")
    method, target, _version = first.decode("latin-1").split(" ")
    parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
    if not parts.hostname or (method != "CONNECT" and parts.scheme != "http"):
        raise ValueError("not a request to a proxy")
    port = parts.port or 80
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Asked(method, parts.hostname, port, path, headers)


def _head(asked: _Asked) -> bytes:
    """Write the request as the site gets it: one for a connection, so that none goes astray."""
    hop = (b"proxy-", b"connection:", b"keep-alive:")
    kept = [line for line in asked.headers if not line.lower().startswith(hop)]
    first = f"{asked.method} {asked.path} HTTP/1.1".encode("latin-1")
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


def _refusal(reason: Reason) -> bytes:
    status = b"403 Forbidden" if reason is Reason.PRIVATE_ADDRESS else b"502 Bad Gateway"
    name = REASON_HEADER.encode()
    head = [b"HTTP/1.1 " + status, name + b": " + reason.encode(), b"Content-Type: text/plain"]
    # With a body: Chromium shows no answer of 4xx or 5xx that has none.
    return b"\r\n".join([*head, b"Connection: close", b"", reason.encode()])


def _reason(error: Exception) -> Reason:
    if isinstance(error, PrivateAddressError):
        return Reason.PRIVATE_ADDRESS
    return Reason.TIMEOUT if isinstance(error, TimeoutError) else Reason.UNREACHABLE
