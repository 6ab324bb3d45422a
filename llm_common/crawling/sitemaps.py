"""Sitemaps (sitemaps.org): the URLs that a site offers by itself, within bounds."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..extras import require
from .models import Fetcher, Reason

MOST_SITEMAPS = 100
"""Files that are read for one site."""
MOST_URLS = 50_000
"""URLs that are taken, as many as one file may list."""
MOST_BYTES = 50_000_000
"""Of one file, decompressed; the limit of the protocol is 50 MiB."""

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Sitemap:
    """What one file lists: pages and further sitemaps."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def parse_sitemap(body: bytes) -> Sitemap:
    """Read a sitemap in XML or text, gzipped or not; what is none of these lists nothing."""
    raw = _plain(body)
    if raw.lstrip()[:1] != b"<":
        lines = (line.strip() for line in raw.decode("utf-8-sig", "replace").splitlines())
        return Sitemap(tuple(line for line in lines if line.startswith(("http://", "https://"))))
    etree = require("lxml.etree", "pages")
    # Entities stay as they are and nothing is loaded: a sitemap can't grow while it is read.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, recover=True, remove_comments=True
    )
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError:
        root = None
    if root is None:
        return Sitemap()
    entries = [entry for entry in root if isinstance(entry.tag, str)]
    return Sitemap(
        tuple(_locations(e for e in entries if etree.QName(e).localname == "url")),
        tuple(_locations(e for e in entries if etree.QName(e).localname == "sitemap")),
    )


async def read_sitemaps(fetcher: Fetcher, urls: Iterable[str], most: int = MOST_URLS) -> list[str]:
    """Read sitemaps and those that they name; return the pages, each once, in their order.

    What can't be fetched or read lists nothing. Loops and bombs end at the bounds above.
    """
    waiting = deque(dict.fromkeys(urls))
    seen = set(waiting)
    pages: dict[str, None] = {}
    read = 0
    while waiting and read < MOST_SITEMAPS and len(pages) < most:
        fetched = await fetcher.fetch(waiting.popleft())
        read += 1
        if fetched.reason is not Reason.FETCHED:
            continue
        sitemap = parse_sitemap(fetched.body)
        pages.update(dict.fromkeys(sitemap.pages[: most - len(pages)]))
        fresh = [url for url in dict.fromkeys(sitemap.sitemaps) if url not in seen]
        seen.update(fresh)
        waiting.extend(fresh[:MOST_SITEMAPS])
    return list(pages)[:most]


def _locations(entries: Iterable[Any]) -> Iterable[str]:
    for entry in entries:
        location = (entry.findtext("{*}loc") or "").strip()
        if location:
            yield location


def _plain(body: bytes) -> bytes:
    if not body.startswith(_GZIP):
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
            plain = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        return b""
    return plain if len(plain) <= MOST_BYTES else b""
