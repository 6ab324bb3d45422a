"""`llm-common crawl`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..crawling import (
    Crawl,
    CrawlConfig,
    CrawledPage,
    CrawlSummary,
    Reason,
    crawl,
    normalize_url,
    resume,
    stored_pages,
    summary_of,
)
from ..crawling.addresses import guard
from ..crawling.auto_fetcher import fetcher_named
from ..crawling.http_fetcher import HttpFetcher
from ..crawling.urls import url_key
from ..errors import InvalidInputError
from .common import Where, err, out, print_json

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line asked for."""

    url: str | None
    config: Mapping[str, Any]
    max_pages: int | None
    resume: str | None
    fetcher: str
    networks: Sequence[str]
    folder: Path | None
    where: Where
    new_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def crawl_id(self) -> str:
        """The crawl's id, known before it begins."""
        return self.resume or self.new_id


async def crawl_site(job: Job, *, as_json: bool) -> None:
    """Crawl, write what comes, and print how it ended."""
    config = _config(job)
    db = (await job.where.tracker()).db
    where: Any = {"db": db, "project": job.where.project}
    written = _Folder(job.folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(db.aclose)
        guarded = guard(job.networks)
        fetcher = fetcher_named(job.fetcher, guarded)
        stack.push_async_callback(fetcher.aclose)
        plain = HttpFetcher(guarded)
        stack.push_async_callback(plain.aclose)
        fetchers = {"fetcher": fetcher, "plain": plain}
        going = await stack.enter_async_context(_opened(job, config, fetchers, where))
        stack.enter_context(written)
        # What was stored when the last process ended, whether that could still write it or not.
        async for page in stored_pages(going.id, **where):
            written.add(page)
        if not as_json:
            err.print(f"[dim]crawl {going.id}[/dim]")
        await _follow(going, written, show=not as_json)
        await going.aclose()
        summary = await summary_of(going.id, **where)
    if as_json:
        print_json(_plain(summary, written))
    else:
        out.print(_table(summary))
    _refuse_nothing(summary, written.rows)


def _config(job: Job) -> CrawlConfig:
    if job.resume is not None:
        _refuse_changes(job, job.resume)
    elif job.url is None:
        raise InvalidInputError("name a URL to crawl, or an earlier crawl with --resume")
    given = dict(job.config)
    if job.max_pages is not None:
        given["max_pages"] = job.max_pages
    try:
        return CrawlConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "".join(f"--{str(part).replace('_', '-')} " for part in first["loc"][:1])
        raise InvalidInputError(f"{option}{first['msg'].removeprefix('Value error, ')}") from error


def _refuse_changes(job: Job, crawl_id: str) -> None:
    try:
        UUID(crawl_id)
    except ValueError as error:
        raise InvalidInputError(f"{crawl_id!r} is no id of a crawl") from error
    defaults = CrawlConfig().model_dump()
    changed = any(value != defaults[name] for name, value in job.config.items())
    if job.url is not None or changed:
        raise InvalidInputError(
            "--resume goes on as the crawl began: of URL and options only --max-pages may change"
        )


def _opened(job: Job, config: CrawlConfig, fetchers: Any, where: Any) -> Any:
    if job.resume is not None:
        return resume(job.resume, max_pages=job.max_pages, **fetchers, **where)
    url = normalize_url(job.url or "")
    return crawl(url, config, crawl_id=job.crawl_id, **fetchers, **where)


async def _follow(going: Crawl, written: _Folder, *, show: bool) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not show) as progress:
        task = progress.add_task("crawling", total=going.config.max_pages, completed=going.pages)
        async for page in going:
            written.add(page)
            path = urlsplit(page.url).path[-40:]
            known = f"{going.known} known"
            progress.update(task, completed=going.pages, description=f"{known}  {path}")


class _Folder:
    """A Markdown file per page and `pages.jsonl`; without a folder, only the rows."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._list: IO[str] | None = None

    def __enter__(self) -> _Folder:
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._list = (self.folder / "pages.jsonl").open("w", encoding="utf-8")
            except OSError as error:
                raise InvalidInputError(f"{self.folder} can't be written: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._list is not None:
            self._list.close()

    def add(self, page: CrawledPage) -> None:
        content = page.content
        row = {
            "url": page.url,
            "title": content.title if content else "",
            "reason": page.reason,
            "status": page.status,
            "depth": page.depth,
            "parent": page.parent,
            "duplicate_of": page.duplicate_of,
            "redirect_to": page.redirect_to,
            "file": None,
        }
        if self.folder is not None and self._list is not None:
            if content and content.markdown:
                row["file"] = file_name(page.url)
                (self.folder / row["file"]).write_text(content.markdown, encoding="utf-8")
            self._list.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rows.append(row)


def file_name(url: str) -> str:
    """Name a page's file: readable, safe, and another one for every URL."""
    parts = urlsplit(url)
    words = _NOT_IN_NAMES.sub("-", unquote(f"{parts.netloc}{parts.path}")).strip("-.")
    return f"{words[:80]}-{url_key(url)[:8]}.md"


def _table(summary: CrawlSummary) -> Table:
    table = Table(title=f"{summary.pages} pages, {summary.state}", title_justify="left")
    table.add_column("what became of URLs")
    table.add_column("number", justify="right")
    for reason, number in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        table.add_row(reason, str(number))
    if summary.queued:
        table.add_row("known, not asked", str(summary.queued))
    return table


def _plain(summary: CrawlSummary, written: _Folder) -> dict[str, Any]:
    return {
        "crawl_id": summary.id,
        "state": summary.state,
        "pages": summary.pages,
        "queued": summary.queued,
        "attempts": summary.attempts,
        "interruptions": summary.interruptions,
        "reasons": summary.reasons,
        "urls": written.rows,
    }


_WHY = {
    Reason.PRIVATE_ADDRESS: "it is at a private address; allow that network: --allow-network CIDR",
    Reason.ROBOTS_DISALLOWED: "its robots.txt disallows it; --ignore-robots is for your own site",
    Reason.NOT_FOUND: "there is no such page",
    Reason.UNREACHABLE: "it can't be reached",
    Reason.TIMEOUT: "it gave no answer in time",
}


def _refuse_nothing(summary: CrawlSummary, rows: Sequence[Mapping[str, Any]]) -> None:
    """Say why, where not one page came.

    Raises:
        InvalidInputError: naming the seed and what became of it.
    """
    if summary.pages == 0 and rows:
        reason = Reason(rows[-1]["reason"])
        raise InvalidInputError(f"no page of {rows[-1]['url']}: {_WHY.get(reason, reason.value)}")
