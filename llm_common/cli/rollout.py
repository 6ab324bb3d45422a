"""`llm-common rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ..database import Database
from ..errors import InvalidInputError
from ..rollout.buckets import BUCKETS, percent_of, share_of
from ..rollout.commands import (
    Log,
    Standing,
    change,
    described,
    log,
    only,
    ramp_of,
    standings,
    wanted,
)
from ..rollout.models import Segment, State
from .common import Where, money, out, print_json


async def status(where: Where, flag: str | None, *, as_json: bool) -> None:
    """Print the rollouts of the project."""
    db = (await where.tracker()).db
    found = await standings(db, where.project, flag)
    await db.aclose()
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    for each in found:
        out.print(_table(each))
    if not found:
        out.print(f"project {where.project} has no rollout yet: it is there once its host starts")


async def set_(
    where: Where, value: str, flag: str | None, reason: str, more: dict[str, Any], *, as_json: bool
) -> None:
    """Set a rollout; ``off`` without a flag is the kill switch of all that the project has."""
    to = wanted(value) | more
    db = (await where.tracker()).db
    found = await standings(db, where.project, flag)
    is_all = flag is None and to["mode"] == "off" and bool(found)
    names = [each.state.flag for each in found] if is_all else [flag or only(found, where.project)]
    changed = [await change(db, where.project, name, "set", reason=reason, to=to) for name in names]
    await db.aclose()
    _say(changed, as_json=as_json)


async def ramp(
    where: Where, flag: str | None, reason: str, plan: tuple[str, int, float], *, as_json: bool
) -> None:
    """Let a rollout advance by itself, from its first step on or from where it is."""
    made = ramp_of(*plan)
    db = (await where.tracker()).db
    found = await standings(db, where.project, flag)
    name = flag or only(found, where.project)
    state = next(each.state for each in found if each.state.flag == name)
    now = state.share if state.mode == "percent" else 0
    share = max(made.steps[0], now)
    mode = "on" if share == BUCKETS else "percent"
    to = {"mode": mode, "share": share, "ramp": made.model_dump(mode="json")}
    changed = await change(db, where.project, name, "ramp", reason=reason, to=to)
    await db.aclose()
    _say([changed], as_json=as_json)


async def reset(where: Where, flag: str | None, reason: str, *, as_json: bool) -> None:
    """Allow a rollout again that was rolled back; it stays off until it is set."""
    db = (await where.tracker()).db
    name = flag or only(await standings(db, where.project), where.project)
    to = {"mode": "off", "ramp": None}
    changed = await change(db, where.project, name, "reset", reason=reason, to=to)
    await db.aclose()
    _say([changed], as_json=as_json)


async def show_log(
    where: Where, flag: str | None, limit: int, *, mismatches: bool, as_json: bool
) -> None:
    """Print what was decided, or what shadow executions differed in."""
    db: Database = (await where.tracker()).db
    found = await standings(db, where.project, flag)
    kept = await log(db, where.project, flag or only(found, where.project), limit)
    await db.aclose()
    if as_json:
        print_json(kept.model_dump(mode="json"))
    elif mismatches:
        out.print(_mismatches(kept))
    else:
        out.print(_decisions(kept))


def segments(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Read ``jurisdiction=California:25`` as a segment. Pure.

    Raises:
        InvalidInputError: it can't be read.
    """
    return [_segment(text).model_dump(mode="json") for text in texts]


def _segment(text: str) -> Segment:
    attribute, equals, rest = text.partition("=")
    values, colon, percent = rest.rpartition(":")
    if not (attribute and equals and values and colon):
        raise InvalidInputError(f"write a segment as attribute=value:percent, not {text!r}")
    return Segment(attribute=attribute, values=tuple(values.split("|")), share=share_of(percent))


def _say(changed: Sequence[State], *, as_json: bool) -> None:
    if as_json:
        print_json([state.model_dump(mode="json") for state in changed])
        return
    for state in changed:
        out.print(f"{state.flag}: {described(state)}")


def _table(standing: Standing) -> Table:
    state = standing.state
    title = f"{state.flag}: {described(state)} since {state.stage_at:%Y-%m-%d %H:%M}"
    if state.latched:
        title += f"\n{state.latched}"
    if state.ramp:
        title += f"\nramp {', '.join(f'{percent_of(step)} %' for step in state.ramp.steps)}"
    table = Table(
        *("arm", "shown", "ok", "errors", "refused", "pending", "P95", "cost", "differ"),
        title=title,
        title_justify="left",
    )
    for arm in standing.arms:
        p95 = "" if arm.p95_ms is None else f"{arm.p95_ms / 1000:.1f} s"
        cost = money(arm.cost_usd) + (f" + {arm.unpriced} unknown" if arm.unpriced else "")
        numbers = (arm.exposures, arm.ok, arm.errors, arm.refused + arm.cancelled, arm.pending)
        table.add_row(arm.arm, *map(str, numbers), p95, cost, str(arm.mismatches or ""))
    return table


def _decisions(kept: Log) -> Table:
    table = Table("decided", "by", "what", "to", "why")
    for each in kept.decisions:
        at = each.decided_at.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(at, each.actor, each.action, described(each.after), each.reason)
    return table


def _mismatches(kept: Log) -> Table:
    table = Table("found", "unit", "difference")
    for each in kept.mismatches:
        table.add_row(f"{each.found_at:%Y-%m-%d %H:%M:%S}", each.unit_id, str(each.difference))
    return table
