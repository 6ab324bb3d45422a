"""The browser's way out, asked without a browser."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from llm_common.crawling import Reason
from llm_common.crawling.addresses import Guard
from llm_common.crawling.guard_proxy import REASON_HEADER, GuardProxy

from .web import LOOPBACK, page, site


async def asked(proxy: str, request: str) -> bytes:
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_only_what_the_guard_lets_pass(is_allowed: bool) -> None:
    proxy = GuardProxy(LOOPBACK if is_allowed else Guard(), 10_000)
    url = await proxy.start()
    async with site({"/a": page("<p>hello")}) as served:
        host = served.url.removeprefix("http://")
        answer = await asked(url, f"GET {served.url}/a HTTP/1.1\r\nHost: {host}\r\n\r\n")
    await proxy.aclose()
    assert (b"hello" in answer) == is_allowed
    assert bool(served.asked) == is_allowed
    if not is_allowed:
        assert f"{REASON_HEADER}: private_address".encode() in answer
        assert set(proxy.reasons.values()) == {Reason.PRIVATE_ADDRESS}


async def test_a_connection_is_cut_at_its_limit() -> None:
    proxy = GuardProxy(LOOPBACK, 100_000)
    url = await proxy.start()
    async with site({"/a": page("x" * 5_000_000)}) as served:
        answer = await asked(url, f"GET {served.url}/a HTTP/1.1\r\nHost: h\r\n\r\n")
    await proxy.aclose()
    assert 100_000 <= len(answer) < 300_000


async def test_reasons_do_not_grow_without_end() -> None:
    proxy = GuardProxy(Guard(), 1_000)
    url = await proxy.start()
    for port in range(1, 1_020):
        await asked(url, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")
    await proxy.aclose()
    assert len(proxy.reasons) == 1_000
    assert ("127.0.0.1", 1_019) in proxy.reasons
    assert ("127.0.0.1", 1) not in proxy.reasons


@pytest.mark.parametrize("request_", ["nonsense\r\n\r\n", "GET /path HTTP/1.1\r\n\r\n"])
async def test_what_is_no_request_gets_no_answer(request_: str) -> None:
    proxy = GuardProxy(Guard(), 1_000)
    url = await proxy.start()
    assert await asked(url, request_) == b""
    await proxy.aclose()
