"""`llm-common review`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

from rich.markup import escape
from rich.table import Table

from ..errors import InvalidInputError
from ..review import Action, Review, State, decide, reviews
from .common import Where, out, print_json


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody has decided."""

    review: str
    action: Action
    value: Any
    by: str | None
    note: str | None


async def show(where: Where, job_id: str | None, state: str, limit: int, *, as_json: bool) -> None:
    """Print the queue.

    Raises:
        InvalidInputError: there is no such state.
    """
    if state not in (*get_args(State), "all"):
        raise InvalidInputError(f"no state {state!r}: use open, accepted, corrected, rejected, all")
    wanted = None if state == "all" else cast("State", state)
    tracker = await where.tracker()
    try:
        found = [
            one
            async for one in reviews(
                tracker.db, where.project, job_id=job_id, state=wanted, limit=limit
            )
        ]
    finally:
        await tracker.aclose()
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        out.print(_table(found) if found else "nothing waits for a decision")


async def say(where: Where, said: Said, *, as_json: bool) -> None:
    """Decide, and print what holds now."""
    tracker = await where.tracker()
    try:
        now = await decide(
            tracker.db,
            where.project,
            said.review,
            said.action,
            value=said.value,
            by=said.by,
            note=said.note,
        )
    finally:
        await tracker.aclose()
    if as_json:
        print_json(asdict(now))
    else:
        out.print(f"{escape(now.field)} of {now.unit_key} is {now.state}: {_text(now.decided)}")


def _table(found: Sequence[Review]) -> Table:
    table = Table(title="In doubt", title_justify="left", show_lines=True)
    for column in ("review", "row", "column", "value", "why", "source"):
        table.add_column(column, overflow="fold")
    for one in found:
        cells = [one.id, one.unit_key, one.field, _text(one.value), one.reason or one.state]
        table.add_row(*map(escape, cells), escape(str(_source(one) or "")))
    return table


def _source(one: Review) -> Any:
    others: Sequence[Mapping[str, Any]] = one.details.get("conflicts") or ()
    return next((found["url"] for found in (one.details, *others) if found.get("url")), None)


def _text(value: Any) -> str:
    return "empty" if value is None else str(value)
