"""`llm-common search`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rich.markup import escape
from rich.table import Table

from ..search import Recency
from ..web_search import SearchAnswer, WebSearchClient
from .common import Where, money, out, print_json

_SOURCES = {
    "none": "asked",
    "memory": "from the cache",
    "database": "from the cache",
    "shared": "from a search that another process was making",
    "stale": "from the cache, out of date while it is searched for anew or the engine fails",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for, and by whom."""

    query: str
    engines: Sequence[str]
    count: int
    domains: Sequence[str]
    recency: str | None


async def search(where: Where, wanted: Wanted, *, as_json: bool) -> None:
    """Search, and print what was found, what it cost and where it came from."""
    tracker = await where.tracker()
    client = WebSearchClient(engine=list(wanted.engines), cost_tracker=tracker)
    try:
        recency = cast("Recency | None", wanted.recency)
        answer = await client.answer(wanted.query, wanted.count, wanted.domains, recency)
    finally:
        await client.aclose()
        await tracker.aclose()
    if as_json:
        print_json(_plain(answer))
        return
    out.print(_table(answer) if answer.results else "nothing found")
    asked = list(dict.fromkeys(r.engine for r in answer.results)) or wanted.engines
    out.print(f"{_SOURCES[answer.source]} ({', '.join(asked)}), {money(answer.cost_usd)}")


def _table(answer: SearchAnswer) -> Table:
    table = Table(show_lines=True)
    for column in ("", "result", "published"):
        table.add_column(column)
    for result in answer.results:
        shown = f"[bold]{escape(result.title)}[/bold]\n[blue]{escape(result.url)}[/blue]"
        snippet = f"\n{escape(result.snippet)}" if result.snippet else ""
        table.add_row(str(result.rank), shown + snippet, escape(result.published_date or ""))
    return table


def _plain(answer: SearchAnswer) -> dict[str, object]:
    return {
        "source": answer.source,
        "cost_usd": answer.cost_usd,
        "results": [result.model_dump(mode="json") for result in answer.results],
    }
