"""How stored bytes become content, and content what is stored."""

from __future__ import annotations

import logging
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass

from ..telemetry import event
from .models import Fetched, PageContent, Reason
from .reading import read_page

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
        read: called in a thread, one page at a time.
    """

    version: str
    read: Callable[[Page], PageContent]


def _read(page: Page) -> PageContent:
    headers = {"content-type": page.media_type or ""}
    return read_page(Fetched(page.url, page.url, Reason.FETCHED, body=page.body, headers=headers))


EXTRACTOR = Extractor("1", _read)
"""Reads in processes of its own. A change of what `read_page` makes of a page is a new version."""


def read_with(extractor: Extractor, page: Page) -> PageContent:
    """Read a page; one that an extractor breaks on is `DAMAGED` and ends no crawl."""
    try:
        return extractor.read(page)
    except Exception as error:  # noqa: BLE001 - whatever a parser does with foreign bytes
        event("crawl.damaged", level=logging.WARNING, error=type(error).__name__)
        return PageContent(url=page.url, reason=Reason.DAMAGED)


def written(content: PageContent) -> bytes:
    """Return content as JSON."""
    return content.model_dump_json(exclude_defaults=True).encode()


def packed(data: bytes) -> str:
    """Return bytes as they are stored."""
    return b64encode(zlib.compress(data, LEVEL)).decode("ascii")


def unpacked(text: str) -> bytes:
    """Return stored bytes as they were."""
    return zlib.decompress(b64decode(text))
