"""What was fetched, kept by the hash of its bytes, and what an extractor made of it.

Two layers: bytes, and content by (hash of the bytes, version of the extractor, URL). Another
extractor reads the stored bytes anew and fetches nothing; the same bytes at the same URL are
read once. The URL is part of the key because relative links lead from it.
"""

from __future__ import annotations

import hashlib
import logging
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..database import Database
from ..telemetry import event
from .models import Fetched, PageContent, Reason
from .reading import read_page
from .urls import url_key

PAGES_AT_ONCE = 50
LEVEL = 1
"""Of zlib: pages shrink to a fourth at a tenth of the time that level 6 takes."""


@dataclass(frozen=True, slots=True)
class Page:
    """Bytes that a URL gave, with the header `Content-Type` that came with them."""

    url: str
    content_hash: str
    body: bytes = b""
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Extractor:
    """How bytes become content.

    Attributes:
        version: another one reads stored pages anew.
        read: must not wait.
    """

    version: str
    read: Callable[[Page], PageContent]


def _read(page: Page) -> PageContent:
    headers = {"content-type": page.media_type or ""}
    return read_page(Fetched(page.url, page.url, Reason.FETCHED, body=page.body, headers=headers))


EXTRACTOR = Extractor("1", _read)
"""A change of what `read_page` makes of a page is a new version."""


def hash_of(body: bytes) -> str:
    """Return the SHA-256 of a body, in hex."""
    return hashlib.sha256(body).hexdigest()


def read_with(extractor: Extractor, page: Page) -> PageContent:
    """Read a page; one that an extractor breaks on is `DAMAGED` and ends no crawl."""
    try:
        return extractor.read(page)
    except Exception as error:  # noqa: BLE001 - whatever a parser does with foreign bytes
        event("crawl.damaged", level=logging.WARNING, error=type(error).__name__)
        return PageContent(url=page.url, reason=Reason.DAMAGED)


class PageCache:
    """Pages in the database, in batches."""

    def __init__(self, db: Database, extractor: Extractor = EXTRACTOR) -> None:
        self._db = db
        self._extractor = extractor

    async def read(self, pages: Sequence[Page]) -> tuple[list[PageContent], list[dict[str, str]]]:
        """Return the content of fetched pages, and the rows of those that were read now."""
        known = {row["url_key"]: row for row in await self._find(pages, bodies=False)}
        contents: list[PageContent] = []
        rows: list[dict[str, str]] = []
        for page in pages:
            stored = known[url_key(page.url)]["content"]
            if stored is not None:
                contents.append(_unpacked(stored))
                continue
            content = read_with(self._extractor, page)
            contents.append(content)
            rows.append(self._row(page, content))
        return contents, rows

    async def stored(self, pages: Sequence[Page]) -> list[PageContent]:
        """Return the content of pages that were fetched before; no body is needed.

        What the extractor has not read yet is read now, and kept.
        """
        found = {row["url_key"]: row for row in await self._find(pages, bodies=True)}
        contents: list[PageContent] = []
        rows: list[dict[str, str]] = []
        for page in pages:
            row = found[url_key(page.url)]
            if row["content"] is not None:
                contents.append(_unpacked(row["content"]))
                continue
            body = zlib.decompress(b64decode(row["body"]))
            whole = Page(page.url, page.content_hash, body, page.media_type)
            contents.append(read_with(self._extractor, whole))
            rows.append(self._row(page, contents[-1]))
        if rows:
            await self._db.call("llm_page_contents_store", {"contents": rows})
        return contents

    async def _find(self, pages: Sequence[Page], *, bodies: bool) -> list[dict[str, Any]]:
        wanted = [{"content_hash": p.content_hash, "url_key": url_key(p.url)} for p in pages]
        payload = {"extractor": self._extractor.version, "wanted": wanted, "bodies": bodies}
        return (await self._db.call("llm_page_contents_of", payload))["found"]

    def _row(self, page: Page, content: PageContent) -> dict[str, str]:
        return {
            "content_hash": page.content_hash,
            "extractor": self._extractor.version,
            "url_key": url_key(page.url),
            "content": _packed(content.model_dump_json(exclude_defaults=True).encode()),
        }


def body_row(page: Page) -> dict[str, str]:
    """Return a body as it is stored."""
    return {"content_hash": page.content_hash, "body": _packed(page.body)}


def _packed(data: bytes) -> str:
    return b64encode(zlib.compress(data, LEVEL)).decode("ascii")


def _unpacked(text: str) -> PageContent:
    return PageContent.model_validate_json(zlib.decompress(b64decode(text)))
