"""Rows that ask together are asked for in one call; its cost is divided to the last digit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from llm_common.context import Labels, current, note_cost
from llm_common.cost_tracker import Limit
from llm_common.enrichment.interfaces import LLMEnricher
from llm_common.enrichment.models import Column
from llm_common.enrichment.pool import AskPool, Question, RowAnswer
from llm_common.errors import ProviderUnavailableError

PARTY, PHONE = Column(name="party"), Column(name="phone")


class Scripted(LLMEnricher):
    """Answers every row, leaves some out, and remembers what it was asked."""

    def __init__(self, cost: str = "0.10") -> None:
        self.cost = Decimal(cost)
        self.calls: list[tuple[list[Any], list[Any], list[str]]] = []
        self.labels: list[Labels] = []
        self.left_out: dict[str, int] = {}
        self.errors: list[Exception] = []

    async def enrich_batch(
        self,
        crawl_data: Sequence[Mapping[str, Any]],
        batch_rows: Sequence[Mapping[str, Any]],
        columns_to_enrich: Sequence[Column],
    ) -> list[dict[str, Any]]:
        names = [column.name for column in columns_to_enrich]
        self.calls.append((list(crawl_data), list(batch_rows), names))
        self.labels.append(current())
        note_cost(self.cost)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        answers: list[dict[str, Any]] = []
        for number, row in enumerate(batch_rows):
            if self.left_out.get(row["name"], 0) > 0:
                self.left_out[row["name"]] -= 1
                continue
            answers.append({"row": number, "cells": {"party": {"value": row["name"]}}})
        return answers


def question(name: str, *pages: str, columns: tuple[Column, ...] = (PARTY,)) -> Question:
    texts = pages or (f"about {name}",)
    found = tuple({"url": f"https://{t[:5]}/", "text": t, "full_text": t} for t in texts)
    limits = (Limit("run", name, "total", Decimal(1)), Limit("job", "j", "total", Decimal(9)))
    return Question({"name": name}, columns, found, Labels("p", name, job_id="j", limits=limits))


async def ask(pool: AskPool, *questions: Question) -> list[RowAnswer]:
    return await asyncio.gather(*map(pool.ask, questions))


async def test_one_call_for_all_and_each_page_once() -> None:
    enricher = Scripted()
    pool = AskPool(enricher, most_rows=10, most_tokens=1_000)
    answers = await ask(
        pool,
        question("ann", "a directory", "about ann"),
        question("bob", "a directory", columns=(PHONE,)),
    )
    ((pages, rows, columns),) = enricher.calls
    assert [(page["text"], page["rows"]) for page in pages] == [
        ("a directory", [0, 1]),
        ("about ann", [0]),
    ]
    assert [row["_wanted"] for row in rows] == [["party"], ["phone"]]
    assert columns == ["party", "phone"]
    assert [answer.cells for answer in answers] == [
        {"party": {"value": "ann"}},
        {"party": {"value": "bob"}},
    ]
    assert sum(answer.cost_usd or 0 for answer in answers) == Decimal("0.10")
    assert answers[0].cost_usd is not None
    assert answers[1].cost_usd is not None
    assert answers[0].cost_usd > answers[1].cost_usd


async def test_a_call_for_several_is_charged_to_the_job_and_one_for_one_to_its_run() -> None:
    enricher = Scripted()
    pool = AskPool(enricher, most_rows=10, most_tokens=1_000)
    await ask(pool, question("ann"), question("bob"))
    await ask(pool, question("ann"))
    several, one = enricher.labels
    assert (several.run_id, several.job_id, several.project) == (None, "j", "p")
    assert [limit.scope for limit in several.limits] == ["job"]
    assert (one.run_id, [limit.scope for limit in one.limits]) == ("ann", ["run", "job"])


@pytest.mark.parametrize(("rows", "tokens", "sizes"), [(2, 10_000, [2, 2, 1]), (9, 50, [1] * 5)])
async def test_calls_are_no_larger_than_they_may_be(
    rows: int, tokens: int, sizes: list[int]
) -> None:
    enricher = Scripted()
    pool = AskPool(enricher, most_rows=rows, most_tokens=tokens)
    await ask(pool, *(question(f"n{i}", "word " * 25) for i in range(5)))
    assert sorted((len(call[1]) for call in enricher.calls), reverse=True) == sizes


async def test_who_was_left_out_is_asked_for_again() -> None:
    enricher = Scripted()
    enricher.left_out = {"bob": 1, "eve": 9}
    pool = AskPool(enricher, most_rows=10, most_tokens=10_000)
    ann, bob, eve = await ask(pool, question("ann"), question("bob"), question("eve"))
    assert [[row["name"] for row in call[1]] for call in enricher.calls] == [
        ["ann", "bob", "eve"],
        ["bob", "eve"],
        ["eve"],
    ]
    assert ann.cells
    assert bob.cells
    assert eve.cells is None
    assert sum(x.cost_usd or 0 for x in (ann, bob, eve)) == Decimal("0.30")


async def test_a_failure_is_each_row_s_and_a_cancelled_row_is_nobody_s() -> None:
    enricher = Scripted()
    enricher.errors = [ProviderUnavailableError("503")]
    pool = AskPool(enricher, most_rows=10, most_tokens=10_000)
    gone = asyncio.create_task(pool.ask(question("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    failed = await asyncio.gather(
        pool.ask(question("ann")), pool.ask(question("bob")), return_exceptions=True
    )
    assert [type(one) for one in failed] == [ProviderUnavailableError] * 2
    assert [row["name"] for row in enricher.calls[0][1]] == ["ann", "bob"]
    assert (await pool.ask(question("ann"))).cells
    await pool.aclose()


async def test_an_unknown_price_is_nobody_s_zero() -> None:
    enricher = Scripted()

    class Unpriced(Scripted):
        async def enrich_batch(self, *asked: Any) -> list[dict[str, Any]]:
            note_cost(None)
            return await enricher.enrich_batch(*asked)

    pool = AskPool(Unpriced(), most_rows=10, most_tokens=10_000)
    assert [a.cost_usd for a in await ask(pool, question("ann"), question("bob"))] == [None, None]
