"""What was fetched, kept by the hash of its bytes, and what an extractor made of it.

Two layers: bytes, and content by (hash of the bytes, version of the extractor, URL). Another
extractor reads the stored bytes anew and fetches nothing; the same bytes at the same URL are
read once. The URL is part of the key because relative links lead from it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from ..database import Database
from .batches import Batches
from .extractor import EXTRACTOR, Extractor, Page, packed, read_with, unpacked, written
from .models import PageContent
from .readers import Readers
from .urls import url_key

PAGES_AT_ONCE = 50

Row = dict[str, str]


def hash_of(body: bytes) -> str:
    """Return the SHA-256 of a body, in hex."""
    return hashlib.sha256(body).hexdigest()


class PageCache:
    """Pages in the database; what was not read before is read, off the event loop.

    The library's own extractor reads in processes, another one in a thread.
    """

    def __init__(self, db: Database, extractor: Extractor = EXTRACTOR) -> None:
        self._db = db
        self._extractor = extractor
        self._readers = Readers()
        self._turn = asyncio.Lock()
        self._known = Batches(self._find_contents)

    def expect(self) -> None:
        """Prepare to read: a page will come."""
        if self._extractor is EXTRACTOR:
            self._readers.start()

    async def read(self, page: Page) -> tuple[PageContent, Row | None]:
        """Return the content of a fetched page, and its row if it was read now."""
        stored = await self._known.ask(page)
        if stored is not None:
            return _content(stored), None
        return await self._read(page)

    async def stored(self, pages: Sequence[Page]) -> list[PageContent]:
        """Return the content of pages that were fetched before; no body is needed.

        What the extractor has not read yet is read now, and kept.
        """
        found = {row["url_key"]: row for row in await self._find(pages, bodies=True)}
        contents: dict[str, PageContent] = {}
        unread: list[Page] = []
        for page in pages:
            row = found[url_key(page.url)]
            if row["content"] is not None:
                contents[page.url] = _content(row["content"])
                continue
            body = unpacked(row["body"])
            unread.append(Page(page.url, page.content_hash, body, page.media_type))
        read = await asyncio.gather(*map(self._read, unread))
        if read:
            rows = [row for _, row in read]
            await self._db.call("llm_page_contents_store", {"contents": rows})
        contents |= {page.url: content for page, (content, _) in zip(unread, read, strict=True)}
        return [contents[page.url] for page in pages]

    async def aclose(self) -> None:
        """End the processes that read; the database is left open."""
        await self._known.aclose()
        await self._readers.aclose()

    async def _read(self, page: Page) -> tuple[PageContent, Row]:
        if self._extractor is EXTRACTOR:
            content, stored = await self._readers.read(page)
        else:
            async with self._turn:
                content = await asyncio.to_thread(read_with, self._extractor, page)
            stored = packed(written(content))
        row = {
            "content_hash": page.content_hash,
            "extractor": self._extractor.version,
            "url_key": url_key(page.url),
            "content": stored,
        }
        return content, row

    async def _find_contents(self, pages: Sequence[Page]) -> list[str | None]:
        found = {row["url_key"]: row for row in await self._find(pages, bodies=False)}
        return [found[url_key(page.url)]["content"] for page in pages]

    async def _find(self, pages: Sequence[Page], *, bodies: bool) -> list[dict[str, Any]]:
        wanted = [{"content_hash": p.content_hash, "url_key": url_key(p.url)} for p in pages]
        payload = {"extractor": self._extractor.version, "wanted": wanted, "bodies": bodies}
        return (await self._db.call("llm_page_contents_of", payload))["found"]


def body_row(page: Page) -> Row:
    """Return a body as it is stored."""
    return {"content_hash": page.content_hash, "body": packed(page.body)}


def _content(stored: str) -> PageContent:
    return PageContent.model_validate_json(unpacked(stored))
