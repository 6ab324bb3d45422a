"""Sitemaps in every form, and those that are made to hurt."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.crawling.http_fetcher import HttpFetcher
from llm_common.crawling.sitemaps import MOST_SITEMAPS, parse_sitemap, read_sitemaps

from .web import page, site

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


def urlset(*urls: str, namespace: str = NAMESPACE) -> bytes:
    inside = "".join(f"<url><loc> {url} </loc><priority>1</priority></url>" for url in urls)
    return f'<?xml version="1.0"?><!-- x --><urlset {namespace}>{inside}</urlset>'.encode()


def index(*urls: str) -> bytes:
    inside = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return f"<sitemapindex {NAMESPACE}>{inside}</sitemapindex>".encode()


@pytest.mark.parametrize(
    "body",
    [
        urlset("https://h/1", "https://h/2"),
        urlset("https://h/1", "https://h/2", namespace=""),
        gzip.compress(urlset("https://h/1", "https://h/2")),
        b"\xef\xbb\xbfhttps://h/1\r\n\r\nnot a url\nhttps://h/2\n",
        urlset("https://h/1", "https://h/2")[:-9],
    ],
)
def test_pages_are_listed(body: bytes) -> None:
    assert parse_sitemap(body).pages == ("https://h/1", "https://h/2")


def test_an_index_lists_sitemaps() -> None:
    assert parse_sitemap(index("https://h/a", "https://h/b")).sitemaps == (
        "https://h/a",
        "https://h/b",
    )


@pytest.mark.parametrize(
    "body", [b"", b"<", b"<html><body>no</body>", b"\x1f\x8bno gzip", b"\0\1\2"]
)
def test_what_is_no_sitemap_lists_nothing(body: bytes) -> None:
    assert parse_sitemap(body).pages == ()


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    for raw in (body, b"<" + body, b"\x1f\x8b" + body):
        parse_sitemap(raw)


def test_entities_do_not_grow() -> None:
    lines = ['<!DOCTYPE u [<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)]
    bomb = "".join(lines) + "]><urlset><url><loc>https://h/&a11;</loc></url></urlset>"
    assert sum(map(len, parse_sitemap(bomb.encode()).pages)) < 100


def test_no_file_is_read_by_an_entity() -> None:
    body = b"""<!DOCTYPE u [<!ENTITY f SYSTEM "file:///etc/passwd">]>
        <urlset><url><loc>https://h/&f;</loc></url></urlset>"""
    assert all("root" not in page for page in parse_sitemap(body).pages)


def test_a_gzip_bomb_lists_nothing() -> None:
    assert parse_sitemap(gzip.compress(b"<" + bytes(60_000_000), 1)).pages == ()


async def test_sitemaps_of_sitemaps_within_bounds(fetcher: HttpFetcher) -> None:
    async with site({}) as served:
        url = served.url
        served.pages["/loop"] = page(index(f"{url}/loop", f"{url}/a", f"{url}/gone", f"{url}/a"))
        served.pages["/a"] = page(urlset(*(f"{url}/{n % 7}" for n in range(20))))
        assert await read_sitemaps(fetcher, [f"{url}/loop"]) == [f"{url}/{n}" for n in range(7)]
        assert await read_sitemaps(fetcher, [f"{url}/loop"], most=3) == [
            f"{url}/{n}" for n in range(3)
        ]
        assert served.asked == {"/loop": 2, "/a": 2, "/gone": 1}


async def test_a_tree_of_sitemaps_without_end(fetcher: HttpFetcher) -> None:
    async with site({}) as served:

        async def more(request: object) -> object:
            n = sum(served.asked.values())
            return await page(index(*(f"{served.url}/s?{n}-{k}" for k in range(9))))(request)  # type: ignore[arg-type]

        served.pages["/s"] = more  # type: ignore[assignment]
        assert await read_sitemaps(fetcher, [f"{served.url}/s"]) == []
        assert sum(served.asked.values()) == MOST_SITEMAPS
