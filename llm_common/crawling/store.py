"""Where crawls are kept: the frontier's rows, one turn at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import uuid4

from ..cost_tracker import is_owner_alive, owner_of
from ..database import Database
from ..errors import FencedError, InvalidInputError, RunBusyError
from .config import CrawlConfig
from .frontier import Entry
from .models import Reason
from .urls import url_key

STALE_AFTER_S = 900.0
"""Silence after which an owner on another machine is given up; on this one its lock tells."""
ROWS_AT_ONCE = 5_000

_COLUMNS = tuple(field.name for field in fields(Entry))

_at_work: set[tuple[str, str]] = set()
"""Database and crawl of every crawl that this process is at."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A crawl that this process may work on.

    Attributes:
        fence: a higher one means that a successor took over.
        is_new: nothing of it is known yet.
    """

    id: str
    fence: int
    seeds: tuple[str, ...]
    config: CrawlConfig


class CrawlStore:
    """The rows of one crawl; made by `open_crawl`.

    Attributes:
        crawl: what was opened.
    """

    def __init__(self, db: Database, crawl: Opened) -> None:
        self.crawl = crawl
        self._db = db
        self._whose = {"crawl_id": crawl.id, "fence": crawl.fence}

    async def load(self) -> list[Entry]:
        """Return every URL that is known."""
        return [entry async for entry in stored_entries(self._db, self.crawl.id)]

    async def record(
        self,
        entries: Sequence[Entry],
        pages: int,
        bodies: Sequence[dict[str, str]] = (),
        contents: Sequence[dict[str, str]] = (),
    ) -> None:
        """Write one turn: all of it, or nothing.

        Raises:
            FencedError: a successor took the crawl over.
        """
        rows = [_row(entry) for entry in entries]
        await self._call(
            "llm_crawl_record", pages=pages, urls=rows, bodies=bodies, contents=contents
        )

    async def close(self, state: str) -> None:
        """Leave the crawl as ``completed`` or ``stopped``, for anybody to take up."""
        _at_work.discard((self._db.identity, self.crawl.id))
        await self._call("llm_crawl_close", state=state)

    async def _call(self, function: str, **payload: Any) -> None:
        answer = await self._db.call(function, {**self._whose, **payload})
        if answer.get("fenced"):
            raise FencedError(
                f"crawl {self.crawl.id} was taken over by another process", run_id=self.crawl.id
            )

    def leave(self) -> None:
        """Forget that this process is at the crawl."""
        _at_work.discard((self._db.identity, self.crawl.id))


async def open_crawl(
    db: Database,
    project: str,
    crawl_id: str,
    *,
    seeds: Sequence[str] | None = None,
    config: CrawlConfig | None = None,
    max_pages: int | None = None,
) -> CrawlStore:
    """Make a crawl, or take up one that nobody is at.

    Args:
        seeds: normal URLs; None takes up what there is.
        max_pages: replaces that of the stored configuration.

    Raises:
        RunBusyError: a living process is at it.
        InvalidInputError: the project has no such crawl.
    """
    here = (db.identity, crawl_id)
    if here in _at_work:
        raise _busy(crawl_id)
    _at_work.add(here)
    try:
        payload = {
            "crawl_id": crawl_id,
            "open_id": str(uuid4()),
            "project": project,
            "seeds": seeds,
            "config": config.model_dump(mode="json") if config else None,
            "max_pages": max_pages,
            "owner": owner_of(db),
            "stale_after_s": STALE_AFTER_S,
        }
        answer = await db.call("llm_crawl_open", payload)
        if answer.get("busy") and await _is_given_up(db, answer):
            answer = await db.call("llm_crawl_open", {**payload, "take_over": answer["owner"]})
        if answer.get("busy"):
            raise _busy(crawl_id)
        if answer.get("absent"):
            raise InvalidInputError(f"project {project} has no crawl {crawl_id}")
    except BaseException:
        _at_work.discard(here)
        raise
    stored = CrawlConfig.model_validate(answer["config"])
    opened = Opened(answer["crawl_id"], answer["fence"], tuple(answer["seeds"]), stored)
    return CrawlStore(db, opened)


async def find_crawls(
    db: Database, project: str, *, crawl_id: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return stored crawls with their counts, newest first.

    Args:
        crawl_id: an id, or its first characters.
    """
    payload = {"project": project, "crawl_id": crawl_id, "limit": limit}
    return (await db.call("llm_crawl_list", payload))["crawls"]


async def stored_entries(
    db: Database, crawl_id: str, *, fetched: bool = False
) -> AsyncGenerator[Entry]:
    """Yield the URLs of a crawl, in no order that means something.

    Args:
        fetched: only those that have a page.
    """
    after: str | None = None
    while True:
        payload = {"crawl_id": crawl_id, "after": after, "limit": ROWS_AT_ONCE, "fetched": fetched}
        rows: list[dict[str, Any]] = (await db.call("llm_crawl_urls_after", payload))["urls"]
        for row in rows:
            after = row["url_key"]
            yield _entry(row)
        if len(rows) < ROWS_AT_ONCE:
            return


async def _is_given_up(db: Database, busy: dict[str, Any]) -> bool:
    """Tell whether nobody is at a crawl that has an owner."""
    if busy["owner"] == owner_of(db):
        # Whose end could not be written down: nobody in this process is at it.
        return True
    alive = await asyncio.to_thread(is_owner_alive, db, busy["owner"])
    return bool(busy["stale"]) if alive is None else not alive


def _busy(crawl_id: str) -> RunBusyError:
    return RunBusyError(f"crawl {crawl_id} is being worked on by another process", run_id=crawl_id)


def _row(entry: Entry) -> dict[str, Any]:
    row = {name: value for name in _COLUMNS if (value := getattr(entry, name)) is not None}
    row["url_key"] = url_key(entry.url)
    return row


def _entry(row: dict[str, Any]) -> Entry:
    known = {name: row[name] for name in _COLUMNS}
    known["reason"] = Reason(known["reason"]) if known["reason"] else None
    return Entry(**known)
