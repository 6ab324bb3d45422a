"""`llm-common crawl ab`: the same pages by plain HTTP and by crawl4ai, beside a truth file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..crawling.addresses import Guard, guard
from ..crawling.http_fetcher import HttpFetcher
from ..crawling.litellm_check import refuse_overwritten
from ..crawling.tokens import ENCODING
from ..errors import BudgetError, InvalidInputError
from ..extras import require
from ..llm_client import LLMClient
from ..pricing import price_of
from ..testing import ProviderServer
from .ab_arms import Reading, by_crawl4ai, by_http, crawl4ai_browser, served, url_of
from .ab_score import Asked, Row, Truth, ask, load_truth, scored
from .common import Where, err, money, out, print_json

LOOPBACK = ("127.0.0.0/8",)
PRICED = ("openai", "gpt-4o-mini")
"""By whose price for input the texts are costed, where no model is asked."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the command line asked for.

    Attributes:
        pages: the folder that the pages of the truth file are in; None if they are URLs.
        model: ``provider/model`` that is asked for the fields; None asks none.
    """

    truth: Path
    pages: Path | None
    out: Path
    limit: int | None
    model: str | None
    budget: str | None
    where: Where


async def compare(asked: Comparison, *, as_json: bool) -> list[Row]:
    """Read every page by both arms, score them, write table and chart.

    Raises:
        InvalidInputError: the truth file or the folder can't be used.
        MissingExtraError, ConfigurationError: crawl4ai can't be used.
    """
    refuse_overwritten()
    require("crawl4ai", "crawl")
    truth = _first(load_truth(asked.truth), asked.limit)
    async with AsyncExitStack() as stack:
        urls, allowed = await _urls(stack, truth, asked.pages)
        readings, size = await _read(stack, urls, allowed)
        answers = await _ask_all(stack, asked, readings, truth)
    provider, model = asked.model.split("/", 1) if asked.model else PRICED
    rows = scored(readings, truth, price_of(provider, model), answers)
    _write(asked.out, rows, size, f"{provider}/{model}")
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        out.print(_table(rows, size))
        out.print(f"Written: ab.md, ab.json and ab.png in {asked.out}")
    return rows


async def _urls(
    stack: AsyncExitStack, truth: Truth, folder: Path | None
) -> tuple[Mapping[str, str], Guard]:
    """Return where every page is, and what may be asked for them."""
    if folder is None:
        if odd := [page for page in truth if not page.startswith(("http://", "https://"))]:
            raise InvalidInputError(f"{odd[0]!r} is no URL: name the folder with --pages")
        return {page: page for page in truth}, guard()
    if missing := [page for page in truth if not (folder / page).is_file()]:
        raise InvalidInputError(f"{folder / missing[0]} is in the truth file, but not there")
    base = await stack.enter_async_context(served(folder))
    return {page: url_of(base, page) for page in truth}, guard(LOOPBACK)


async def _read(
    stack: AsyncExitStack, urls: Mapping[str, str], allowed: Guard
) -> tuple[list[Reading], int]:
    """Read the pages one after the other, by each arm in turn."""
    fetcher = HttpFetcher(allowed)
    stack.push_async_callback(fetcher.aclose)
    crawler = await stack.enter_async_context(crawl4ai_browser(allowed))
    readings: list[Reading] = []
    size = 0
    with _progress() as progress:
        task = progress.add_task("pages", total=len(urls))
        for page, url in urls.items():
            ours, length = await by_http(fetcher, page, url)
            readings += [*ours, *await by_crawl4ai(crawler, page, url)]
            size += length
            progress.advance(task)
    return readings, size


async def _ask_all(
    stack: AsyncExitStack, asked: Comparison, readings: Sequence[Reading], truth: Truth
) -> dict[str, list[Asked]]:
    """Ask the model for the fields of every text; a spent budget leaves all of it unasked."""
    if asked.model is None:
        return {}
    provider, _, model = asked.model.partition("/")
    if not model:
        raise InvalidInputError(f"--model is like openai/gpt-4o, not {asked.model!r}")
    base_url = None
    if provider == "offline":
        base_url = (await stack.enter_async_context(ProviderServer())).base_url("offline")
    tracker = await asked.where.tracker()
    stack.push_async_callback(tracker.aclose)
    llm = LLMClient(
        provider,
        model=model,
        base_url=base_url,
        cost_tracker=tracker,
        budget_limit_usd=asked.budget,
    )
    answers: dict[str, list[Asked]] = {}
    with _progress() as progress:
        task = progress.add_task("asking", total=len(readings))
        for reading in readings:
            try:
                answer = await ask(llm, reading.text, list(truth[reading.page]))
            except BudgetError as error:
                err.print(f"llm-common: {error}; the table has no answers of the model")
                return {}
            answers.setdefault(reading.arm, []).append(answer)
            progress.advance(task)
    return answers


def _first(truth: Truth, limit: int | None) -> Truth:
    if limit is not None and limit < 1:
        raise InvalidInputError(f"--limit must be 1 or more, not {limit}")
    return dict(list(truth.items())[:limit])


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )


HEADINGS = ("arm", "fields covered", "values kept", "tokens a page", "seconds a page", "cost")


def _cells(row: Row) -> list[str]:
    cells = [
        row.arm,
        f"{row.fields} of {row.of_fields} ({row.fields / max(row.of_fields, 1):.1%})",
        f"{row.kept} of {row.of_values} ({row.kept / max(row.of_values, 1):.1%})",
        f"{row.tokens / row.pages:,.0f}",
        f"{row.seconds:.3f}",
        money(row.cost_usd),
    ]
    if row.said is not None:
        cells += [f"{row.right} of {row.said}"]
    return cells


def _headings(rows: Sequence[Row]) -> list[str]:
    return [*HEADINGS, *(["right answers"] if rows[0].said is not None else [])]


def _table(rows: Sequence[Row], size: int) -> Table:
    table = Table(title=f"{rows[0].pages} pages, {size / 1e6:.1f} MB of HTML")
    for heading in _headings(rows):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _write(folder: Path, rows: Sequence[Row], size: int, costed_by: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    headings = _headings(rows)
    lines = [
        f"{rows[0].pages} pages, {size:,} bytes. Tokens are {ENCODING}; cost is that of reading "
        f"the texts once, by the price of {costed_by}.",
        "",
        f"| {' | '.join(headings)} |",
        f"| {' | '.join('---' for _ in headings)} |",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
    ]
    (folder / "ab.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = [asdict(row) for row in rows]
    (folder / "ab.json").write_text(json.dumps(listed, default=str, indent=1), encoding="utf-8")
    _chart(rows).savefig(folder / "ab.png", dpi=120)


def _chart(rows: Sequence[Row]) -> Any:
    """Draw what each arm keeps beside the tokens that it takes."""
    figure = require("matplotlib.figure", "crawl").Figure(figsize=(9, 3.2), layout="constrained")
    kept, tokens = figure.subplots(1, 2, sharey=True)
    names = [row.arm for row in reversed(rows)]
    colours = ["#2b6cb0" if name.startswith("http") else "#a0aec0" for name in names]
    share = [100 * row.kept / max(row.of_values, 1) for row in reversed(rows)]
    kept.bar_label(kept.barh(names, share, color=colours), fmt="%.1f %%", padding=3)
    kept.set(
        title="Values kept", xlim=(0, 135), xticks=range(0, 101, 20), xlabel="% of the truth file"
    )
    each = [row.tokens / row.pages for row in reversed(rows)]
    tokens.bar_label(tokens.barh(names, each, color=colours), fmt="{:,.0f}", padding=3)
    tokens.set(title="Tokens a page", xlabel="fewer are cheaper")
    tokens.margins(x=0.2)
    return figure
