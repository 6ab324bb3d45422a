"""One row from its keys to its cells: search, snippets, pages, and again for what is weak."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from ..context import current, executing, labels
from ..cost_tracker import Limit
from ..errors import BudgetExceededError, CallError
from ..prompts import shipped
from ..runs import Retries, UnitRun
from .fitting import shares
from .interfaces import CrawlDecisionMaker, Dict, QueryStringBuilder, SearchService, WebCrawler
from .merging import merge
from .models import (
    Cell,
    Column,
    EnrichmentMetadata,
    EnrichmentRequest,
    Evidence,
    PipelineConfig,
    RowStatus,
)
from .pool import AskPool, Question, page_hash
from .verifying import judge

VERSION = 1
"""Of the steps here: a change of what they store or take is a new one."""
STEPS = ("queries", "search", "choose", "crawl", "enrich")

_JOINED = re.compile(r"\s+(?:…|\.\.\.)\s+")

Note = Callable[[RowStatus], Awaitable[None]]


def step_versions() -> dict[str, str]:
    """Return the version of each step, with the hash of the prompt that it uses."""
    prompt = shipped("enrich_rows", "1").hash
    return {name: f"{VERSION}:{prompt}" if name == "enrich" else str(VERSION) for name in STEPS}


@dataclass(frozen=True, slots=True)
class Parts:
    """What rows are enriched with."""

    request: EnrichmentRequest
    config: PipelineConfig
    builder: QueryStringBuilder
    search: SearchService
    chooser: CrawlDecisionMaker
    crawler: WebCrawler
    pool: AskPool


@dataclass
class _Progress:
    """What is known of a row so far."""

    columns: tuple[Column, ...]
    evidence: dict[str, list[Evidence]] = field(default_factory=dict[str, list[Evidence]])
    costs: dict[str, Decimal | None] = field(default_factory=dict[str, Decimal | None])
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    read: set[str] = field(default_factory=set[str])
    pages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    rounds: int = 0
    stopped: str | None = None

    def cells(self, now: datetime) -> dict[str, Cell]:
        return {
            column.name: merge(column, self.evidence.get(column.name, []), now=now)
            for column in self.columns
        }

    def weak(self, now: datetime) -> tuple[Column, ...]:
        cells = self.cells(now)
        return tuple(column for column in self.columns if not cells[column.name].is_settled)

    def charge(self, cost: Decimal | None, columns: Sequence[Column]) -> None:
        """Divide a cost among the columns that it was for."""
        for column, part in zip(columns, shares(cost, [1] * len(columns)), strict=True):
            before = self.costs.get(column.name, Decimal(0))
            self.costs[column.name] = None if before is None or part is None else before + part


class RowRun:
    """The enrichment of one row, in steps of its run."""

    def __init__(self, run: UnitRun, row: Dict, parts: Parts, note: Note) -> None:
        self._run = run
        self._row = row
        self._parts = parts
        self._request = parts.request
        self._config = parts.config
        self._note = note
        self._max_age = timedelta(days=parts.config.max_age_days)
        self._retries = Retries(parts.config.max_retries, parts.config.retry_delay_seconds)
        self._state = _Progress(parts.request.columns_to_enrich)

    async def enrich(self) -> dict[str, Any]:
        """Return the cells and metadata of the row, as JSON."""
        started = time.monotonic()
        now = await self._run.now()
        with labels(limits=(*current().limits, *self._limits())):
            try:
                await self._rounds(now)
            except BudgetExceededError as error:
                if not error.scope.startswith("run "):
                    raise
                self._state.stopped = "the row's budget is used up"
        return self._result(now, time.monotonic() - started)

    def _limits(self) -> tuple[Limit, ...]:
        cap = self._config.row_budget_usd
        return () if cap is None else (Limit("run", self._run.id, "total", cap),)

    async def _rounds(self, now: datetime) -> None:
        state = self._state
        for number in range(self._config.refine_rounds + 1):
            weak = state.weak(now)
            if not weak:
                return
            state.rounds = number + 1
            found = await self._search(number, weak)
            await self._ask(f"{number} snippets", [snippet(one) for one in found], now)
            if weak := state.weak(now):
                state.pages += await self._crawl(number)
                # What was read before is shown again: it may say what was overlooked.
                await self._ask(f"{number} pages", state.pages, now)

    async def _search(self, number: int, weak: Sequence[Column]) -> list[dict[str, Any]]:
        """Return results that are new to the row."""
        await self._note(RowStatus.SEARCHING)
        keys = self._request.keys

        async def build(**_: Any) -> list[str]:
            return await self._parts.builder.build_queries(
                [self._row],
                weak,
                keys,
                round_no=number,
                context=self._request.search_context,
            )

        asked = {"row": self._named(), "columns": list(weak), "round": number}
        queries: list[str] = await self._run.step(
            "queries", build, {**asked, "context": self._request.search_context}, key=str(number),
            version=VERSION,
        )  # fmt: skip
        answers = await _what_came([self._query(query, weak) for query in queries])
        most = self._config.crawl_config.max_results_per_query
        seen = {one["url"] for one in self._state.results}
        new: dict[str, dict[str, Any]] = {}
        for answer in answers:
            for result in answer[:most]:
                if result["url"] not in seen:
                    new.setdefault(result["url"], result)
        self._state.results += new.values()
        return list(new.values())

    async def _query(self, query: str, weak: Sequence[Column]) -> list[dict[str, Any]]:
        async def search(query: str) -> dict[str, Any]:
            with executing() as made:
                found = await self._parts.search.search([query])
            return {"results": found, **self._paid(made.cost_usd)}

        found = await self._run.step(
            "search",
            search,
            {"query": query},
            key=query,
            version=VERSION,
            max_age=self._max_age,
            retries=self._retries,
        )
        self._charge(found, weak)
        return found["results"]

    async def _crawl(self, number: int) -> list[dict[str, Any]]:
        """Fetch what looks worth it among what was found and not read yet."""
        await self._note(RowStatus.CRAWLING)
        config = self._config.crawl_config
        unread = [one for one in self._state.results if one["url"] not in self._state.read]

        async def choose(**_: Any) -> list[str]:
            return await self._parts.chooser.select_urls_to_crawl(
                unread, config.max_pages_per_row, row=self._named()
            )

        inputs = {"row": self._named(), "results": [one["url"] for one in unread]}
        urls: list[str] = await self._run.step(
            "choose", choose, {**inputs, "most": config.max_pages_per_row}, key=str(number),
            version=VERSION,
        )  # fmt: skip
        self._state.read.update(urls)
        found = await _what_came([self._page(url) for url in dict.fromkeys(urls)])
        return [page for pages in found for page in pages]

    async def _page(self, url: str) -> list[dict[str, Any]]:
        config = self._config.crawl_config

        async def crawl(url: str, **_: Any) -> list[dict[str, Any]]:
            pages = await self._parts.crawler.crawl([url], config)
            if not any(page.get("reason") == "fetched" for page in pages):
                raise _NoPageError(pages)
            return pages

        how = config.model_dump(mode="json", exclude={"max_results_per_query"})
        try:
            return await self._run.step(
                "crawl", crawl, {"url": url, "config": how}, key=url, version=VERSION,
                max_age=self._max_age,
            )  # fmt: skip
        except _NoPageError as failed:
            return failed.pages

    async def _ask(self, key: str, pages: Sequence[Dict], now: datetime) -> None:
        """Ask for what is weak, and judge the answers by the pages."""
        weak = self._state.weak(now)
        readable = [page for page in pages if page.get("text") or page.get("full_text")]
        if not weak or not readable:
            return
        await self._note(RowStatus.ENRICHING)
        prompt = shipped("enrich_rows", "1")

        async def ask(**_: Any) -> dict[str, Any]:
            question = Question(self._named(), weak, tuple(readable), current())
            answer = await self._parts.pool.ask(question)
            return {"cells": answer.cells, **self._paid(answer.cost_usd)}

        inputs = {
            "row": self._named(),
            "columns": list(weak),
            "pages": [page_hash(page) for page in readable],
            "model": self._config.model,
        }
        said = await self._run.step(
            "enrich",
            ask,
            inputs,
            key=key,
            version=VERSION,
            prompt_hash=prompt.hash,
            retries=self._retries,
        )
        self._charge(said, weak)
        cells: Mapping[str, Any] = said["cells"] or {}
        # A directory of hundreds of people takes a moment to read.
        found = await asyncio.to_thread(
            lambda: [self._judged(one, cells.get(one.name), readable, now) for one in weak]
        )
        for column, evidence in zip(weak, found, strict=True):
            self._state.evidence.setdefault(column.name, []).append(evidence)

    def _judged(
        self, column: Column, answer: Dict | None, pages: Sequence[Dict], now: datetime
    ) -> Evidence:
        if answer is None:
            return Evidence(value=None, verdict="missing", reason="the model left the row out")
        return judge(
            self._row,
            self._request.keys,
            column,
            answer,
            pages,
            now=now,
            max_age_days=self._config.max_evidence_age_days,
        )

    def _named(self) -> dict[str, Any]:
        return {key: self._row.get(key) for key in self._request.keys}

    def _paid(self, cost: Decimal | None) -> dict[str, Any]:
        """Say what a step has cost, and whom: other runs find its result for nothing."""
        return {"cost_usd": None if cost is None else f"{cost:f}", "paid_by": self._run.id}

    def _charge(self, step: Mapping[str, Any], columns: Sequence[Column]) -> None:
        if step["paid_by"] == self._run.id:
            cost = step["cost_usd"]
            self._state.charge(None if cost is None else Decimal(cost), columns)

    def _result(self, now: datetime, seconds: float) -> dict[str, Any]:
        state = self._state
        cells = {name: self._cell(name, cell) for name, cell in state.cells(now).items()}
        costs = [cell.cost_usd for cell in cells.values()]
        known = [cost for cost in costs if cost is not None]
        borne_out = [cell for cell in cells.values() if cell.is_settled and cell.url]
        metadata = EnrichmentMetadata(
            sources=tuple(dict.fromkeys(cell.url for cell in borne_out if cell.url)),
            confidence=round(sum(cell.confidence for cell in cells.values()) / len(cells), 3),
            processing_time=round(seconds, 3),
            cost_usd=sum(known, Decimal(0)) if len(known) == len(costs) else None,
            pages_read=sum(page.get("reason") == "fetched" for page in state.pages),
            rounds=state.rounds,
        )
        return {
            "cells": {name: cell.model_dump(mode="json") for name, cell in cells.items()},
            "metadata": metadata.model_dump(mode="json"),
        }

    def _cell(self, name: str, cell: Cell) -> Cell:
        reason = cell.reason
        if self._state.stopped and not cell.is_settled:
            reason = self._state.stopped
        cost = self._state.costs.get(name, Decimal(0))
        changes: dict[str, Any] = {"cost_usd": cost, "reason": reason}
        # What nothing settles is not a value: it stays among what was found.
        if cell.value is not None and not cell.is_settled:
            about = cell.model_dump(include={"value", "quote", "url", "verdict", "reason"})
            changes |= {"value": None, "quote": None, "url": None}
            changes["conflicts"] = (Evidence(**about), *cell.conflicts)
        return cell.model_copy(update=changes)


class _NoPageError(Exception):
    """A page that could not be had now: what has failed is never stored as an answer."""

    def __init__(self, pages: list[dict[str, Any]]) -> None:
        super().__init__("no page")
        self.pages = pages


async def _what_came(
    asking: Sequence[Awaitable[list[dict[str, Any]]]],
) -> list[list[dict[str, Any]]]:
    """Wait for all; one provider's failure among several is less, not the end.

    Raises:
        CallError: all have failed.
        LLMCommonError: whatever else one of them raised.
    """
    answers = await asyncio.gather(*asking, return_exceptions=True)
    came = [answer for answer in answers if not isinstance(answer, BaseException)]
    for failure in answers:
        if isinstance(failure, BaseException) and not (came and isinstance(failure, CallError)):
            raise failure
    return came


def snippet(result: Dict) -> dict[str, Any]:
    """Return a search result as a page that says only what its snippet does."""
    # What an engine has joined stands apart on the page: no quote may span it. And its last word
    # may be half of one, such as an address without its end.
    whole = (result.get("snippet") or "").rstrip().rpartition(" ")[0]
    text = "\n\n".join([result.get("title") or "", "\n".join(_JOINED.split(whole))]).strip()
    return {
        "url": result["url"],
        "title": result.get("title") or "",
        "text": text,
        "full_text": text,
        "dated": result.get("published_date"),
        "reason": "fetched",
    }
