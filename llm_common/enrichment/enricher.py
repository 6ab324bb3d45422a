"""Values read off pages by a model: several rows in one call, each with its own pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

from pydantic import BaseModel, Field

from ..errors import InvalidInputError
from ..llm_client import LLMClient
from ..llm_client.options import CallOptions
from ..prompts import shipped
from ..routing import LLMTask
from ..types import LLMResponse
from .fitting import BYTES_PER_TOKEN, fitted, page_rooms, shown_text
from .interfaces import Dict, LLMEnricher
from .models import Column

MOST_TOKENS = 24_000
TOKENS_PER_CELL, TOKENS_PER_ROW = 160, 80
_LONGEST_VALUE = 300
_CLOSING = re.compile(r"<(/?\s*(?:page|row)s?\b)", re.IGNORECASE)


class CellSaid(BaseModel):
    """What a model says of one cell."""

    column: str
    value: str | int | float | bool | None = None
    quote: str | None = Field(None, description="copied word for word from the page")
    page: int | None = Field(None, description="number of the page that it stands on")
    reason: str | None = Field(None, description="why there is no value")


class RowSaid(BaseModel):
    """What a model says of one row."""

    row: int = Field(description="number of the row")
    cells: list[CellSaid] = Field(default_factory=list[CellSaid])


class RowsSaid(BaseModel):
    """What a model says of all rows of a call."""

    rows: list[RowSaid] = Field(default_factory=list[RowSaid])


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call came to.

    Attributes:
        answers: as `LLMEnricher.enrich_batch` returns them.
        cost_usd: of all attempts; None if a price is unknown, 0 if nothing was sent.
        operation_id: of the ledger's rows; None if nothing was sent.
        tokens: of the attempt that answered, input and output.
    """

    answers: list[dict[str, Any]]
    cost_usd: Decimal | None = Decimal(0)
    operation_id: str | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """One question: its text, and what the numbers in it stand for."""

    content: str
    wanted: Mapping[int, Sequence[Column]]
    pages: Sequence[Dict]


class ModelEnricher(LLMEnricher):
    """Asks through an `LLMClient`, with structured output.

    Args:
        keys: columns that name a row; None takes all that are not wanted.
        model: asked instead of the task `extract`'s.
        max_input_tokens: room for the pages of one call.
    """

    def __init__(
        self,
        llm: LLMClient,
        *,
        keys: Sequence[str] | None = None,
        model: str | None = None,
        max_input_tokens: int = MOST_TOKENS,
    ) -> None:
        self._llm = llm
        self._keys = keys
        self._model = model
        self._room = max_input_tokens * BYTES_PER_TOKEN

    async def enrich_batch(
        self,
        crawl_data: Sequence[Dict],
        batch_rows: Sequence[Dict],
        columns_to_enrich: Sequence[Column],
    ) -> list[dict[str, Any]]:
        """Return the answers; see `LLMEnricher.enrich_batch`.

        Raises:
            LLMCommonError: as `LLMClient.complete`.
        """
        return (await self.ask(crawl_data, batch_rows, columns_to_enrich)).answers

    async def ask(
        self, crawl_data: Sequence[Dict], rows: Sequence[Dict], columns: Sequence[Column]
    ) -> Asked:
        """Ask once for all rows, and say what it cost.

        A row without any page that has text is answered without asking; one that the model leaves
        out has no answer. An answer uses pages of its own row alone.

        Raises:
            LLMCommonError: as `LLMClient.complete`.
        """
        call = self._call(crawl_data, rows, columns)
        unread = [
            _nothing(number, _wanted(row, columns))
            for number, row in enumerate(rows)
            if number not in call.wanted and _wanted(row, columns)
        ]
        if not call.wanted:
            return Asked(unread)
        response: LLMResponse[RowsSaid] = await self._llm.complete(
            [{"role": "user", "content": call.content}],
            self._model,
            RowsSaid,
            **self._options(call),
        )
        if response.parsed is None:  # pragma: no cover - a response model always parses or raises
            raise InvalidInputError("the answer holds no rows")
        return Asked(
            sorted([*unread, *_answers(response.parsed, call)], key=lambda answer: answer["row"]),
            response.cost_usd,
            response.operation_id,
            response.usage.total_tokens,
        )

    def estimate_bound(
        self, crawl_data: Sequence[Dict], rows: Sequence[Dict], columns: Sequence[Column]
    ) -> Decimal | None:
        """Return the most that one attempt at this call can cost, in USD; None if unknown."""
        call = self._call(crawl_data, rows, columns)
        if not call.wanted:
            return Decimal(0)
        messages = [{"role": "user", "content": call.content}]
        return self._llm.estimate(messages, self._model, RowsSaid, **self._options(call))

    def _options(self, call: _Call) -> CallOptions:
        cells = sum(len(columns) for columns in call.wanted.values())
        options = CallOptions(
            step="enrich",
            prompt=shipped("enrich_rows", "1"),
            max_tokens=256 + TOKENS_PER_ROW * len(call.wanted) + TOKENS_PER_CELL * cells,
            temperature=0.0,
        )
        if self._model is None:
            options["task"] = LLMTask("extract")
        return options

    def _call(
        self, crawl_data: Sequence[Dict], rows: Sequence[Dict], columns: Sequence[Column]
    ) -> _Call:
        """Write the question: rows and pages by number, from 1 for the model."""
        pages = [page for page in crawl_data if page.get("text") or page.get("full_text")]
        read = {number for page in pages for number in _rows_of(page, len(rows))}
        wanted = {
            number: asked
            for number, row in enumerate(rows)
            if number in read and (asked := _wanted(row, columns))
        }
        pages = [page for page in pages if _rows_of(page, len(rows)) & wanted.keys()]
        texts = [shown_text(page) for page in pages]
        rooms = page_rooms([len(text.encode()) for text in texts], self._room)
        used = {column.name: column for asked in wanted.values() for column in asked}
        shown: list[str] = []
        for number, (page, text, room) in enumerate(zip(pages, texts, rooms, strict=True), 1):
            about = sorted(_rows_of(page, len(rows)) & wanted.keys())
            names = [value for n in about for _, value in self._known(rows[n], columns)]
            asked = [column for column in used.values() if any(column in wanted[n] for n in about)]
            shown.append(_page(number, about, page, fitted(text, room, names, asked)))
        content = shipped("enrich_rows", "1").render(
            columns="\n".join(map(_column, used.values())),
            rows="\n".join(self._row(n, rows[n], asked, pages) for n, asked in wanted.items()),
            pages="\n\n".join(shown),
        )
        return _Call(content, wanted, pages)

    def _known(self, row: Dict, columns: Sequence[Column]) -> list[tuple[str, str]]:
        """Return what names a row."""
        asked = {column.name for column in columns}
        names = self._keys or [n for n in row if n not in asked and not str(n).startswith("_")]
        return [(name, str(row[name])) for name in names if row.get(name) not in (None, "")]

    def _row(self, number: int, row: Dict, wanted: Sequence[Column], pages: Sequence[Dict]) -> str:
        keys = [
            f"{_safe(name)} = {_safe(value[:_LONGEST_VALUE])}"
            for name, value in self._known(row, wanted)
        ]
        own = [str(n) for n, page in enumerate(pages, 1) if number in (page.get("rows") or ())]
        return (
            f'<row number="{number + 1}" pages="{" ".join(own)}">\nkeys: {"; ".join(keys)}\n'
            f"wanted: {', '.join(_safe(column.name) for column in wanted)}\n</row>"
        )


def _wanted(row: Dict, columns: Sequence[Column]) -> list[Column]:
    names = row.get("_wanted")
    return [column for column in columns if names is None or column.name in names]


def _rows_of(page: Dict, count: int) -> set[int]:
    return {number for number in page.get("rows") or () if 0 <= number < count}


def _nothing(number: int, columns: Sequence[Column]) -> dict[str, Any]:
    cells = {column.name: {"value": None, "reason": "no page has text"} for column in columns}
    return {"row": number, "cells": cells}


def _column(column: Column) -> str:
    parts = [f"- {_safe(column.name)} ({column.type})"]
    if column.description:
        parts.append(f": {_safe(column.description)}")
    if column.choices:
        parts.append(f"; one of: {' | '.join(map(_safe, column.choices))}")
    if column.examples:
        parts.append(f"; such as: {' | '.join(map(_safe, column.examples))}")
    return "".join(parts)


def _page(number: int, rows: Sequence[int], page: Dict, text: str) -> str:
    names = f'title="{escape(_flat(page.get("title")))}" url="{escape(_flat(page.get("url")))}"'
    dated = f' dated="{escape(_flat(page["dated"]))}"' if page.get("dated") else ""
    about = " ".join(str(row + 1) for row in rows)
    return f'<page number="{number}" rows="{about}" {names}{dated}>\n{_safe(text)}\n</page>'


def _safe(text: str) -> str:
    """Return text that can neither open nor close a mark of ours."""
    return _CLOSING.sub(r"< \1", text)


def _flat(value: Any) -> str:
    return " ".join(str(value or "").split())[:_LONGEST_VALUE]


def _answers(said: RowsSaid, call: _Call) -> list[dict[str, Any]]:
    """Return what may be used of an answer: known rows, wanted columns, the row's own pages."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for row in said.rows:
        number = row.row - 1
        names = {column.name.casefold(): column.name for column in call.wanted.get(number, ())}
        cells = found.setdefault(number, {}) if names else {}
        for cell in row.cells:
            name = names.get(cell.column.strip().casefold())
            if name and name not in cells:
                cells[name] = _cell(cell, number, call.pages)
    return [{"row": number, "cells": cells} for number, cells in found.items() if cells]


def _cell(said: CellSaid, row: int, pages: Sequence[Dict]) -> dict[str, Any]:
    if said.value is None or (isinstance(said.value, str) and not said.value.strip()):
        return {"value": None, "reason": said.reason or "the model found no value"}
    at = (said.page or 0) - 1
    own = 0 <= at < len(pages) and row in (pages[at].get("rows") or ())
    url = str(pages[at].get("url") or "") if own else None
    return {"value": said.value, "quote": said.quote, "url": url}
