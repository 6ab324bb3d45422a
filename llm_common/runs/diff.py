"""What differs between two runs, or between the units of two jobs: outputs, tokens, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain
from typing import Any, Literal

from ..database import Database
from ..errors import InvalidInputError
from .jobs import check_schema, find_jobs
from .opening import find_runs

PAGE = 200
MOST_JOBS = 1000

Kind = Literal["changed", "only_left", "only_right", "dearer", "cheaper", "same"]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a run or a job."""

    kind: Literal["run", "job"]
    id: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What something has cost; `unpriced` calls are not in `cost_usd`."""

    cost_usd: Decimal = Decimal(0)
    tokens: int = 0
    unpriced: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.cost_usd + other.cost_usd,
            self.tokens + other.tokens,
            self.unpriced + other.unpriced,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One unit, or one step of it, on both sides.

    Attributes:
        step: None for the unit as a whole.
        kind: ``changed`` is another output or another end, of a unit or of a step of it;
            ``dearer`` and ``cheaper`` have the same ones on the right, for more or for less.
        left, right: how the outputs begin; None where there is none.
    """

    unit_key: str
    step: str | None
    kind: Kind
    left: str | None
    right: str | None
    left_spent: Spent
    right_spent: Spent


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two sides.

    Attributes:
        units: pairs of units by how they compare; the sum is all units of both sides.
        differences: units that differ, each followed by its steps that do.
    """

    left: Side
    right: Side
    units: Mapping[Kind, int]
    left_spent: Spent
    right_spent: Spent
    differences: Sequence[Difference]


async def diff(db: Database, project: str, left: str, right: str) -> Comparison:
    """Compare two runs, or two jobs unit by unit.

    Args:
        left: the id of a run or of a job, or its beginning; `right` is of the same kind.

    Raises:
        InvalidInputError: nothing, or more than one thing, has this id; or one is a run and the
            other a job.
    """
    await check_schema(db)
    sides = await _side(db, project, left), await _side(db, project, right)
    if sides[0].kind != sides[1].kind:
        raise InvalidInputError(
            f"{left} is a {sides[0].kind} and {right} is a {sides[1].kind}: name two of a kind"
        )
    return compared(
        *sides, await _units(db, project, sides[0]), await _units(db, project, sides[1])
    )


async def _side(db: Database, project: str, text: str) -> Side:
    """Find what an id, or the beginning of one, stands for."""
    if not text:
        raise InvalidInputError("an empty id names nothing: name a run or a job")
    if await find_jobs(db, project, job_id=text):
        return Side("job", text)
    jobs = await find_jobs(db, project, limit=MOST_JOBS)
    found = [Side("job", job.job_id) for job in jobs if job.job_id.startswith(text)]
    if _is_of_uuid(text):
        runs = await find_runs(db, project, run_id=text)
        found += [Side("run", run["id"]) for run in runs]
    if len(found) != 1:
        which = "several runs or jobs start" if found else "no run or job starts"
        raise InvalidInputError(f"{which} with {text!r} in project {project}")
    return found[0]


def _is_of_uuid(text: str) -> bool:
    return len(text) <= 36 and set(text.lower()) <= set("0123456789abcdef-")


async def _units(db: Database, project: str, side: Side) -> list[dict[str, Any]]:
    if side.kind == "run":
        asked = {"project": project, "run_id": side.id}
        return (await db.call("llm_runs_side", asked))["units"]
    units: list[dict[str, Any]] = []
    while True:
        after = units[-1]["ordinal"] if units else 0
        asked = {"project": project, "job_id": side.id, "after": after, "limit": PAGE}
        page = (await db.call("llm_runs_side", asked))["units"]
        units += page
        if len(page) < PAGE:
            return units


def compared(
    left: Side,
    right: Side,
    left_units: Sequence[Mapping[str, Any]],
    right_units: Sequence[Mapping[str, Any]],
) -> Comparison:
    """Compare what is stored of two sides; two runs are a pair whatever they are of. Pure."""
    is_pair = left.kind == "run"
    before = {"" if is_pair else u["unit_key"]: u for u in left_units}
    after = {"" if is_pair else u["unit_key"]: u for u in right_units}
    counts: dict[Kind, int] = {}
    differences: list[Difference] = []
    for key in dict.fromkeys([*before, *after]):
        found = _unit_difference(before.get(key), after.get(key))
        counts[found[0].kind] = counts.get(found[0].kind, 0) + 1
        differences += [one for one in found if one.kind != "same"]
    return Comparison(left, right, counts, _total(left_units), _total(right_units), differences)


def _total(units: Sequence[Mapping[str, Any]]) -> Spent:
    return sum((_spent_of(unit) for unit in units), Spent())


def _unit_difference(
    left: Mapping[str, Any] | None, right: Mapping[str, Any] | None
) -> list[Difference]:
    """Return the unit as a whole, then its steps."""
    unit_key: str = (left or right or {})["unit_key"]
    whole = _difference(unit_key, None, (left, right), (_spent_of(left), _spent_of(right)))
    if left is None or right is None:
        return [whole]
    steps = _steps(left), _steps(right)
    parts = [
        _difference(
            unit_key,
            name,
            (steps[0].get(name), steps[1].get(name)),
            (_step_spent(left, name), _step_spent(right, name)),
        )
        for name in dict.fromkeys(chain(*steps))
    ]
    if any(part.kind in {"changed", "only_left", "only_right"} for part in parts):
        whole = replace(whole, kind="changed")
    return [whole, *parts]


def _difference(
    unit_key: str,
    step: str | None,
    sides: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
    spent: tuple[Spent, Spent],
) -> Difference:
    left, right = sides
    seen = tuple(None if side is None else side["seen"] for side in sides)
    return Difference(unit_key, step, _kind(left, right, spent), seen[0], seen[1], *spent)


def _kind(
    left: Mapping[str, Any] | None, right: Mapping[str, Any] | None, spent: tuple[Spent, Spent]
) -> Kind:
    if left is None:
        return "only_right"
    if right is None:
        return "only_left"
    end = "outcome" if "outcome" in left else "state"
    if (left["output"], left[end]) != (right["output"], right[end]):
        return "changed"
    before, after = ((one.cost_usd, one.tokens) for one in spent)
    return "same" if before == after else "dearer" if after > before else "cheaper"


def _steps(unit: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the steps by name, and key where there is one."""
    return {f"{s['step']} {s['key'] or ''}".strip(): s for s in unit["steps"]}


def _spent_of(unit: Mapping[str, Any] | None) -> Spent:
    costs: Mapping[str, Any] = unit["costs"] if unit else {}
    return sum((_spent(one) for one in costs.values()), Spent())


def _step_spent(unit: Mapping[str, Any], name: str) -> Spent:
    """Return what a step has cost; the ledger knows its name, so that it is nothing of a key's."""
    return _spent(unit["costs"].get(name, {}))


def _spent(cost: Mapping[str, Any]) -> Spent:
    return Spent(Decimal(cost.get("cost_usd", 0)), cost.get("tokens", 0), cost.get("unpriced", 0))
