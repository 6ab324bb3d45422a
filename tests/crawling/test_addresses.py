"""No private address, however it is written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.crawling import Reason
from llm_common.crawling.addresses import Guard, PrivateAddressError, guard, split
from llm_common.errors import InvalidInputError

PRIVATE = (
    "http://127.0.0.1/", "http://10.0.0.1/", "http://172.16.5.4/", "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/", "http://0.0.0.0/", "http://100.64.0.1/",
    "http://224.0.0.1/", "http://255.255.255.255/", "http://198.18.0.1/",
    "http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://0/",
    "http://[::1]/", "http://[::]/", "http://[fe80::1]/", "http://[fc00::1]/", "http://[ff02::1]/",
    "http://[::ffff:10.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/",
    "http://[64:ff9b::a00:1]/", "http://[2002:7f00:1::]/", "http://[2002:c0a8:101::1]/",
    "http://[2001:0:7f00:1::]/", "http://127.0.0.1./", "https://127.0.0.1:8443/",
)  # fmt: skip

INVALID = (
    "", "nonsense", "//host/path", "http://", "http:///path", "http://:80/", "http://host:0/",
    "http://host:99999/", "http://host:port/", "http://user:pw@host/", "http://user@host/",
    "http://ho st/", "http://host/\n", "http://[::1/", "http://[fe80::1%25eth0]/",
    "http://host/" + "a" * 9_000, "http://134744072/",
)  # fmt: skip

SCHEMES = (
    "ftp://host/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:text/html,x",
    "mailto:a@b.c",
)


@pytest.mark.parametrize("url", PRIVATE)
def test_a_private_address_is_refused(url: str) -> None:
    assert Guard().judge(url) is Reason.PRIVATE_ADDRESS


@pytest.mark.parametrize("url", INVALID)
def test_what_is_no_url_is_refused(url: str) -> None:
    assert Guard().judge(url) is Reason.INVALID_URL


@pytest.mark.parametrize("url", SCHEMES)
def test_only_http_and_https(url: str) -> None:
    assert Guard().judge(url) is Reason.UNSUPPORTED_SCHEME


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://8.8.8.8/",
        "http://[2606:4700::1111]/",
        "http://a.b:81/ü?q=1#f",
    ],
)
def test_public_urls_pass(url: str) -> None:
    assert Guard().judge(url) is None


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    for url in (text, f"http://{text}/", f"http://host/{text}"):
        split(url)
        Guard().judge(url)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_form(ip: ipaddress.IPv4Address) -> None:
    refused = Guard().refuses(str(ip))
    assert refused == (not ip.is_global or ip.is_multicast)
    assert Guard().refuses(f"::ffff:{ip}") == refused
    if refused:
        assert Guard().judge(f"http://{int(ip)}/") is Reason.PRIVATE_ADDRESS
        assert Guard().refuses(f"64:ff9b::{ip}")
        assert Guard().refuses(str(ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80))))


def test_allowed_networks_pass_and_no_others() -> None:
    some = guard(["10.1.0.0/16", "fd00::/8"])
    assert some.judge("http://10.1.2.3/") is None
    assert some.judge("http://[fd00::1]/") is None
    assert some.judge("http://[::ffff:10.1.2.3]/") is None
    assert some.judge("http://10.2.2.3/") is Reason.PRIVATE_ADDRESS


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"10\.1\.0\.0/16"):
        guard(["10.1.2.3/16"])


async def test_a_name_is_judged_by_where_it_leads() -> None:
    with pytest.raises(PrivateAddressError):
        await Guard().resolve("localhost", 80)
    assert "127.0.0.1" in await guard(["127.0.0.0/8", "::1/128"]).resolve("localhost", 80)
    with pytest.raises(OSError, match=r"."):
        await Guard().resolve("nowhere.invalid", 80)
