"""Questions of rows that are under way together, put to a model in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..context import Labels, executing, labels
from ..runs import digest
from .fitting import batches_by_tokens, shares, shown_text, tokens_of
from .interfaces import Dict, LLMEnricher
from .models import Column

GATHER_S = 0.1
"""What the first question waits for others; a model takes ten times as long."""
TIMES = 3
"""How often a row is asked for that an answer leaves out."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one row asks.

    Attributes:
        pages: as a crawler gives them.
        flows: labels of the row's task; its run is charged if it is alone in its call.
    """

    row: Dict
    columns: tuple[Column, ...]
    pages: tuple[Dict, ...]
    flows: Labels

    @property
    def tokens(self) -> int:
        """About how many tokens of input its pages are."""
        return sum(tokens_of(shown_text(page)) for page in self.pages)


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What one row is answered.

    Attributes:
        cells: by column; None if the model left the row out, each time.
        cost_usd: the row's part, by the tokens of its pages; the parts of a call add up to it.
    """

    cells: Mapping[str, Any] | None
    cost_usd: Decimal | None


class AskPool:
    """Collects questions and asks them in calls of several rows.

    Args:
        most_rows: of one call.
        most_tokens: of the pages of one call.
    """

    def __init__(self, enricher: LLMEnricher, *, most_rows: int, most_tokens: int) -> None:
        self._enricher = enricher
        self._most_rows = most_rows
        self._most_tokens = most_tokens
        self._waiting: list[tuple[Question, asyncio.Future[RowAnswer]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def ask(self, question: Question) -> RowAnswer:
        """Return the answer to one row; what asking raised is raised for each row of the call."""
        answer = RowAnswer(None, Decimal(0))
        for _ in range(TIMES):
            last = await self._once(question)
            answer = RowAnswer(last.cells, _sum(answer.cost_usd, last.cost_usd))
            if answer.cells is not None:
                break
        return answer

    async def aclose(self) -> None:
        """Stop what is being asked; nobody may be waiting for it."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _once(self, question: Question) -> RowAnswer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[RowAnswer] = loop.create_future()
        self._waiting.append((question, future))
        if len(self._waiting) >= self._most_rows:
            self._dispatch()
        elif self._timer is None:
            self._timer = loop.call_later(GATHER_S, self._dispatch)
        return await future

    def _dispatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Who has been cancelled meanwhile asks nothing any more.
        waiting = [one for one in self._waiting if not one[1].done()]
        self._waiting = []
        sized = [(one, one[0].tokens) for one in waiting]
        for batch in batches_by_tokens(sized, self._most_tokens, self._most_rows):
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, batch: Sequence[tuple[Question, asyncio.Future[RowAnswer]]]) -> None:
        questions = [question for question, _ in batch]
        try:
            answers = await self._answers(questions)
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _answers(self, questions: Sequence[Question]) -> list[RowAnswer]:
        columns = {column.name: column for one in questions for column in one.columns}
        rows = [{**one.row, "_wanted": [c.name for c in one.columns]} for one in questions]
        flows = questions[0].flows
        # A call for several rows is nobody's alone: its parts are in the rows' own results.
        run_id = flows.run_id if len(questions) == 1 else None
        limits = tuple(x for x in flows.limits if run_id or x.scope != "run")
        with (
            labels(run_id=run_id, limits=limits, project=flows.project, job_id=flows.job_id),
            executing() as made,
        ):
            said = await self._enricher.enrich_batch(
                _shared(questions), rows, list(columns.values())
            )
        cells = {answer["row"]: answer["cells"] for answer in said}
        parts = shares(made.cost_usd, [one.tokens for one in questions])
        return [RowAnswer(cells.get(n), part) for n, part in enumerate(parts)]


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _shared(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Return each page once, with the rows that it is for."""
    pages: dict[str, dict[str, Any]] = {}
    for number, question in enumerate(questions):
        for page in question.pages:
            name = page_hash(page)
            pages.setdefault(name, {**page, "rows": []})["rows"].append(number)
    return list(pages.values())


def page_hash(page: Dict) -> str:
    """Name a page by its address and what it says."""
    return digest([page.get("url"), page.get("text"), page.get("full_text"), page.get("dated")])
