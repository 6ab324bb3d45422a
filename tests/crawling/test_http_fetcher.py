"""Every way in which a URL can end, over a real connection."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from aiohttp import web

from llm_common.crawling import Fetched, Reason
from llm_common.crawling.http_fetcher import HttpFetcher, Limits

from .web import LOOPBACK, page, redirect, site

HTML = "<p>A page of some length</p>"


def gzipped(body: bytes) -> bytes:
    """Compress without the time of day, which would be in the name of the test."""
    return gzip.compress(body, mtime=0)


async def test_a_page(fetcher: HttpFetcher) -> None:
    async with site({"/a": page(HTML)}) as served:
        fetched = await fetcher.fetch(f"{served.url}/a?b=%7e#part")
    assert fetched.reason is Reason.FETCHED
    assert (fetched.body, fetched.status, fetched.content_type) == (HTML.encode(), 200, "text/html")
    assert served.asked == {"/a?b=%7e": 1}
    assert fetched.elapsed_s > 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.REFUSED),
        (403, Reason.REFUSED),
        (404, Reason.NOT_FOUND),
        (410, Reason.NOT_FOUND),
        (418, Reason.CLIENT_ERROR),
        (429, Reason.RATE_LIMITED),
        (500, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
        (304, Reason.BROKEN_ANSWER),
        (302, Reason.BROKEN_ANSWER),
        (204, Reason.EMPTY),
    ],
)
async def test_a_status_is_a_reason(fetcher: HttpFetcher, status: int, reason: Reason) -> None:
    async with site({"/": page(b"", status)}) as served:
        fetched = await fetcher.fetch(f"{served.url}/")
    assert (fetched.reason, fetched.status, fetched.body) == (reason, status, b"")


async def test_retry_after_is_read(fetcher: HttpFetcher) -> None:
    async with site({"/": page(b"", 429, Retry_After="7")}) as served:
        assert (await fetcher.fetch(served.url)).retry_after_s == 7.0


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(HTML.encode())),
        ("x-gzip", gzipped(b"<p>A page of ") + gzipped(b"some length</p>")),
        ("deflate", zlib.compress(HTML.encode())),
        ("deflate", zlib.compress(HTML.encode())[2:-4]),
        ("identity", HTML.encode()),
    ],
)
async def test_a_compressed_body_is_decompressed(
    fetcher: HttpFetcher, encoding: str, body: bytes
) -> None:
    async with site({"/": page(body, Content_Encoding=encoding)}) as served:
        assert (await fetcher.fetch(served.url)).body == HTML.encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"this is not gzip"),
        ("deflate", b"this is not deflate"),
        ("gzip", gzipped(HTML.encode())[:-9]),
        ("br", b"whatever"),
        ("gzip, gzip", gzipped(gzipped(HTML.encode()))),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_broken(
    fetcher: HttpFetcher, encoding: str, body: bytes
) -> None:
    async with site({"/": page(body, Content_Encoding=encoding)}) as served:
        fetched = await fetcher.fetch(served.url)
    assert (fetched.reason, fetched.body) == (Reason.BROKEN_ANSWER, b"")


async def test_a_bomb_is_stopped(fetcher: HttpFetcher) -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)
    async with site({"/": page(bomb, Content_Encoding="gzip")}) as served:
        fetched = await fetcher.fetch(served.url)
    assert (fetched.reason, fetched.body) == (Reason.TOO_LARGE, b"")


async def test_a_body_of_2_gb_is_not_read(fetcher: HttpFetcher) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        if request.path == "/declared":
            answer.content_length = 2_000_000_000
        await answer.prepare(request)
        for _ in range(2_000_000_000 // 65_536):
            await answer.write(bytes(65_536))
            sent += 65_536
        return answer

    async with site({"/declared": endless, "/undeclared": endless}) as served:
        for path in ("/declared", "/undeclared"):
            fetched = await fetcher.fetch(served.url + path)
            assert (fetched.reason, fetched.body) == (Reason.TOO_LARGE, b"")
    assert sent < 100_000_000


async def test_slow_ends_in_a_timeout() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x")
            await asyncio.sleep(0.05)

    hasty = HttpFetcher(LOOPBACK, limits=Limits(timeout_s=1.0))
    async with site({"/": drip}) as served:
        fetched = await hasty.fetch(f"{served.url}/")
    await hasty.aclose()
    assert (fetched.reason, fetched.final_url) == (Reason.TIMEOUT, f"{served.url}/")


async def test_a_body_that_breaks_off_is_no_page(fetcher: HttpFetcher) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"<p>half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with site({"/": cut}) as served:
        assert (await fetcher.fetch(served.url)).reason is Reason.BROKEN_ANSWER


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 ?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 99_999,
    ],
)
async def test_an_answer_that_is_not_http(fetcher: HttpFetcher, raw: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        fetched = await fetcher.fetch(f"http://127.0.0.1:{port}/")
    assert fetched.reason is Reason.BROKEN_ANSWER


async def test_media_is_not_downloaded(fetcher: HttpFetcher) -> None:
    async with site({"/": page(b"\x89PNG", Content_Type="image/png")}) as served:
        assert (await fetcher.fetch(served.url)).reason is Reason.UNSUPPORTED_TYPE


async def test_nothing_there(fetcher: HttpFetcher) -> None:
    async with site({}) as served:
        pass
    assert (await fetcher.fetch(served.url)).reason is Reason.UNREACHABLE
    assert (await fetcher.fetch("http://nowhere.invalid/")).reason is Reason.UNREACHABLE
    # A TLS handshake with a server that speaks none.
    async with site({"/": page()}) as served:
        tls = await fetcher.fetch(served.url.replace("http:", "https:"))
    assert tls.reason is Reason.UNREACHABLE


async def test_redirects_are_followed_and_told(fetcher: HttpFetcher) -> None:
    pages = {"/a": redirect("/b", 301), "/b": redirect("c?d#e", 307), "/c": page(HTML)}
    async with site(pages) as served:
        fetched = await fetcher.fetch(f"{served.url}/a")
    assert fetched.reason is Reason.FETCHED
    assert fetched.url == f"{served.url}/a"
    assert fetched.final_url == f"{served.url}/c?d"
    assert fetched.redirects == (f"{served.url}/a", f"{served.url}/b")


async def test_a_redirect_may_be_left_to_the_caller(fetcher: HttpFetcher) -> None:
    async with site({"/a": redirect("/b")}) as served:
        fetched = await fetcher.fetch(f"{served.url}/a", hops=0)
    assert (fetched.reason, fetched.redirect_to) == (Reason.REDIRECTED, f"{served.url}/b")
    assert served.asked == {"/a": 1}


async def test_loops_and_long_chains_end(fetcher: HttpFetcher) -> None:
    chain = {f"/{n}": redirect(f"/{n + 1}") for n in range(50)}
    async with site({"/a": redirect("/b"), "/b": redirect("/a"), **chain}) as served:
        loop = await fetcher.fetch(f"{served.url}/a")
        long = await fetcher.fetch(f"{served.url}/0", hops=3)
    assert loop.reason is long.reason is Reason.REDIRECT_LOOP
    assert served.asked == {"/a": 1, "/b": 1, "/0": 1, "/1": 1, "/2": 1, "/3": 1}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://169.254.169.254/latest/", Reason.PRIVATE_ADDRESS),
        ("http://[::ffff:10.0.0.1]/", Reason.PRIVATE_ADDRESS),
        ("http://0x7f.0.0.2.nip/", Reason.UNREACHABLE),
        ("file:///etc/passwd", Reason.UNSUPPORTED_SCHEME),
        ("http://[bad/", Reason.BROKEN_ANSWER),
        ("http://user:pw@host/", Reason.INVALID_URL),
    ],
)
async def test_every_redirect_is_judged(fetcher: HttpFetcher, target: str, reason: Reason) -> None:
    async with site({"/": redirect(target)}) as served:
        assert (await fetcher.fetch(f"{served.url}/")).reason is reason


async def test_by_default_no_private_address_is_asked() -> None:
    fetcher = HttpFetcher()
    async with site({"/": page()}) as served:
        names: list[Fetched] = [
            await fetcher.fetch(url)
            for url in (served.url, served.url.replace("127.0.0.1", "localhost"))
        ]
    await fetcher.aclose()
    assert [fetched.reason for fetched in names] == [Reason.PRIVATE_ADDRESS] * 2
    assert not served.asked
