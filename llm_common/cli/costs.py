"""`llm-common costs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import cast, get_args

from rich.table import Table

from .. import admin
from ..cost_tracker import BudgetStatus, CostBreakdown, CostTracker
from ..cost_tracker.tracker import GroupBy
from ..errors import InvalidInputError
from .common import Where, money, out, print_json

Days = tuple[date | None, date | None]


async def costs(where: Where, by: str, days: Days, *, as_json: bool) -> None:
    """Print the breakdown of a span of days, and the budgets."""
    if by not in get_args(GroupBy):
        raise InvalidInputError(f"--by {by!r}: use one of {', '.join(get_args(GroupBy))}")
    start, end = span_of(days)
    tracker = await where.tracker()
    lines = await tracker.get_cost_breakdown(start, end, cast("GroupBy", by))
    budgets = await tracker.get_budgets()
    await tracker.aclose()
    if as_json:
        print_json(_plain(where, start, end, by, lines, budgets))
        return
    out.print(cost_table(lines, by, f"{where.project}, {start} to {end}"))
    if budgets:
        out.print(_budget_table(budgets))


async def prompts(where: Where, prompt_id: str | None, days: Days, *, as_json: bool) -> None:
    """Print how the versions of the project's prompts compare."""
    start, end = span_of(days)
    tracker = await where.tracker()
    await tracker.flush()
    rows = await admin.compare_prompt_versions(
        tracker.db, start, end, prompt_id, project=where.project
    )
    await tracker.aclose()
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
    else:
        out.print(_prompt_table(rows, f"Prompts of {where.project}, {start} to {end}"))


def span_of(days: Days) -> tuple[date, date]:
    """Return the first and the last day that were asked for: by default this month so far.

    Raises:
        InvalidInputError: the first is after the last.
    """
    today = datetime.now(UTC).date()
    end = days[1] or today
    start = days[0] or min(today, end).replace(day=1)
    if start > end:
        raise InvalidInputError(f"--since {start} is after --until {end}")
    return start, end


async def job_costs(tracker: CostTracker, job_id: str) -> list[CostBreakdown]:
    """Return what the runs of a job cost in all, by step."""
    await tracker.flush()
    answer = await tracker.db.call("llm_job_costs", {"project": tracker.project, "job_id": job_id})
    return [CostBreakdown.model_validate(line) for line in answer["rows"]]


def cost_table(lines: Sequence[CostBreakdown], by: str, title: str) -> Table:
    """Lay costs out, with their sum."""
    table = Table(title=title, title_justify="left", show_footer=True)
    total = (
        sum((line.total_cost for line in lines), start=type(lines[0].total_cost)(0)) if lines else 0
    )
    table.add_column(by, footer="sum")
    table.add_column("calls", justify="right", footer=str(sum(line.calls for line in lines)))
    table.add_column("tokens", justify="right", footer=f"{sum(line.tokens for line in lines):,}")
    table.add_column("cost", justify="right", footer=money(total))
    table.add_column("unpriced", justify="right", footer=str(sum(line.unpriced for line in lines)))
    for line in lines:
        table.add_row(
            line.key or "—",
            str(line.calls),
            f"{line.tokens:,}",
            money(line.total_cost),
            str(line.unpriced),
        )
    return table


def _prompt_table(rows: Sequence[admin.PromptComparison], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("prompt", "version", "hash"):
        table.add_column(column)
    for column in ("calls", "ok", "reasked", "per call", "unpriced", "in", "out", "ms"):
        table.add_column(column, justify="right")
    for row in rows:
        averages = (row.avg_input_tokens, row.avg_output_tokens, row.avg_latency_ms)
        table.add_row(
            row.prompt,
            row.version or "—",
            row.hash or "—",
            str(row.calls),
            f"{row.ok_share:.0%}",
            f"{row.reask_share:.0%}",
            money(row.avg_cost),
            str(row.unpriced),
            *("—" if average is None else f"{average:,.0f}" for average in averages),
        )
    return table


def _budget_table(budgets: Sequence[BudgetStatus]) -> Table:
    table = Table(title="Budgets", title_justify="left")
    for column in ("scope", "window", "limit", "spent", "held"):
        table.add_column(column, justify="left" if column in ("scope", "window") else "right")
    for b in budgets:
        table.add_row(
            f"{b.scope} {b.scope_id}",
            b.window,
            money(b.limit_usd),
            money(b.spent_usd),
            money(b.held_usd),
        )
    return table


def _plain(
    where: Where,
    start: date,
    end: date,
    by: str,
    lines: Sequence[CostBreakdown],
    budgets: Sequence[BudgetStatus],
) -> dict[str, object]:
    return {
        "project": where.project,
        "start": start,
        "end": end,
        "by": by,
        "rows": [line.model_dump(mode="json") for line in lines],
        "budgets": [
            {
                "scope": b.scope,
                "scope_id": b.scope_id,
                "window": b.window,
                "limit_usd": b.limit_usd,
                "spent_usd": b.spent_usd,
                "held_usd": b.held_usd,
            }
            for b in budgets
        ],
    }
