"""Pages by plain HTTP: one connection pool, every limit held while the bytes arrive."""

from __future__ import annotations

import asyncio
import socket
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from ..retry_after import retry_after_s
from .addresses import Guard, PrivateAddressError
from .models import MOST_REDIRECTS, Fetched, Reason

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import ResolveResult

USER_AGENT = "llm-common"
"""Sent to sites, and the name by which robots.txt may address us."""

TIMEOUT_S = 30.0
MOST_BYTES = 10_000_000
"""Of a body, decompressed: the longest of the pages and PDFs that are worth reading."""

_CHUNK = 64 * 1024
_HEADERS = {
    "Accept": "text/html,application/xhtml+xml,application/pdf,text/plain;q=0.9,*/*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
    "Accept-Language": "en,*;q=0.5",
}
_UNREADABLE = ("image/", "video/", "audio/", "font/")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_STATUSES = {
    401: Reason.REFUSED,
    403: Reason.REFUSED,
    404: Reason.NOT_FOUND,
    407: Reason.REFUSED,
    408: Reason.TIMEOUT,
    410: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
    451: Reason.REFUSED,
}


class _StopError(Exception):
    """The answer is not read any further."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one fetch may take.

    Attributes:
        timeout_s: from the request to the last byte, redirects included.
        most_bytes: of the decompressed body.
    """

    timeout_s: float = TIMEOUT_S
    most_bytes: int = MOST_BYTES


class HttpFetcher:
    """Fetches by HTTP; see `Fetcher`. Cookies are not kept.

    Args:
        guard: which addresses may be asked; public ones by default.
    """

    name = "http"

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        user_agent: str = USER_AGENT,
        limits: Limits | None = None,
    ) -> None:
        self._guard = guard or Guard()
        self._headers = {**_HEADERS, "User-Agent": user_agent}
        self._limits = limits or Limits()
        self._session: ClientSession | None = None

    async def fetch(self, url: str, *, hops: int = MOST_REDIRECTS) -> Fetched:
        """Fetch one URL; see `Fetcher.fetch`."""
        began = time.monotonic()
        path: list[str] = []
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                fetched = await self._follow(url, hops, path)
        except TimeoutError:
            fetched = Fetched(url, path[-1] if path else url, Reason.TIMEOUT)
        return replace(
            fetched, url=url, redirects=tuple(path[:-1]), elapsed_s=time.monotonic() - began
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, url: str, hops: int, path: list[str]) -> Fetched:
        """Follow redirects; `path` takes every URL that is asked."""
        while True:
            path.append(url)
            fetched = await self._once(url)
            if fetched.redirect_to is None or hops == 0:
                return fetched
            if fetched.redirect_to in path or len(path) > hops:
                return replace(fetched, reason=Reason.REDIRECT_LOOP)
            url = fetched.redirect_to

    async def _once(self, url: str) -> Fetched:
        if refused := self._guard.judge(url):
            return Fetched(url, url, refused)
        import aiohttp
        from yarl import URL

        try:
            # encoded: the site gets the URL as it was written.
            async with self._opened().get(URL(url, encoded=True), allow_redirects=False) as answer:
                return await self._read(url, answer)
        except (aiohttp.ClientError, ValueError, OSError, zlib.error) as error:
            return Fetched(url, url, _reason_of(error))

    async def _read(self, url: str, answer: ClientResponse) -> Fetched:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        seen = Fetched(
            url,
            url,
            reason_of_status(answer.status),
            status=answer.status,
            headers=headers,
            retry_after_s=retry_after_s(headers, time.time()),
        )
        if answer.status in _REDIRECTS and (target := _target(url, headers.get("location"))):
            return replace(seen, reason=Reason.REDIRECTED, redirect_to=target)
        if seen.reason is not Reason.FETCHED:
            return seen
        if seen.content_type.startswith(_UNREADABLE):
            return replace(seen, reason=Reason.UNSUPPORTED_TYPE)
        try:
            body = await self._body(answer)
        except _StopError as stop:
            return replace(seen, reason=stop.reason)
        return replace(seen, body=body) if body else replace(seen, reason=Reason.EMPTY)

    async def _body(self, answer: ClientResponse) -> bytes:
        most = self._limits.most_bytes
        if (answer.content_length or 0) > most:
            raise _StopError(Reason.TOO_LARGE)
        body = bytearray()
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        async for chunk in decoded(answer.content.iter_chunked(_CHUNK), encoding):
            body += chunk
            if len(body) > most:
                raise _StopError(Reason.TOO_LARGE)
        return bytes(body)

    def _opened(self) -> ClientSession:
        if self._session is None:
            self._session = _session(self._guard, self._headers)
        return self._session


async def decoded(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """Decompress as the bytes arrive, a bounded piece at a time, so that a bomb can be stopped.

    Raises:
        zlib.error: the bytes are not what `encoding` says.
        ValueError: another encoding, or the end is missing.
    """
    if encoding in ("", "identity"):
        async for chunk in chunks:
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError("an encoding that was not asked for")
    inflate: Any = None
    async for chunk in chunks:
        rest = chunk
        while rest:
            if inflate is None or inflate.eof:
                inflate = zlib.decompressobj(_window(encoding, rest))
            yield inflate.decompress(rest, _CHUNK)
            rest = inflate.unused_data or inflate.unconsumed_tail
    if inflate is not None and not inflate.eof:
        raise ValueError("the compressed body was cut")


def _window(encoding: str, begin: bytes) -> int:
    """Return zlib's window bits; what is called deflate comes with zlib's header or without."""
    if encoding != "deflate":
        return 16 + zlib.MAX_WBITS
    with_header = len(begin) > 1 and begin[0] & 0x0F == 8 and (begin[0] * 256 + begin[1]) % 31 == 0
    return zlib.MAX_WBITS if with_header else -zlib.MAX_WBITS


def _session(guard: Guard, headers: dict[str, str]) -> ClientSession:
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
    from aiohttp.abc import AbstractResolver

    class GuardedResolver(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
                for address in await guard.resolve(host, port, family)
            ]

        async def close(self) -> None:
            """Nothing is held."""

    return ClientSession(
        connector=TCPConnector(resolver=GuardedResolver(), limit=0),
        headers=headers,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        timeout=ClientTimeout(total=None),
    )


def reason_of_status(status: int) -> Reason:
    """Name what an HTTP status means for a page."""
    if 200 <= status < 300:
        return Reason.FETCHED
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return Reason.SERVER_ERROR
    return Reason.CLIENT_ERROR if status >= 400 else Reason.BROKEN_ANSWER


def _reason_of(error: Exception) -> Reason:
    """Name what went wrong on the wire; the errors' own texts are dropped."""
    import aiohttp

    cause = getattr(error, "os_error", error.__cause__)
    if isinstance(error, PrivateAddressError) or isinstance(cause, PrivateAddressError):
        return Reason.PRIVATE_ADDRESS
    if isinstance(error, aiohttp.InvalidURL):
        return Reason.INVALID_URL
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    unreachable = (aiohttp.ClientConnectorError, ConnectionRefusedError, socket.gaierror)
    return Reason.UNREACHABLE if isinstance(error, unreachable) else Reason.BROKEN_ANSWER


def _target(url: str, location: str | None) -> str | None:
    if not location:
        return None
    try:
        return urldefrag(urljoin(url, location.strip())).url or None
    except ValueError:
        return None
