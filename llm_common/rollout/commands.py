"""What people do with a rollout: look at it, set it, let it ramp, reset it.

For the command line, and for hosts' own admin pages.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import uuid4

from ..database import Database
from ..errors import InvalidInputError, RolloutError
from ..types import Frozen
from .buckets import BUCKETS, percent_of, share_of
from .models import Ramp, State


class ArmCount(Frozen):
    """What one arm did since the stage began.

    Attributes:
        pending: exposures without an outcome.
        p95_ms: None without an outcome.
        unpriced: outcomes without a known cost.
        mismatches: of shadow executions.
    """

    arm: str
    exposures: int
    units: int
    ok: int
    errors: int
    refused: int
    cancelled: int
    pending: int
    p95_ms: int | None
    cost_usd: Decimal
    unpriced: int
    mismatches: int


class Standing(Frozen):
    """A rollout and its arms."""

    state: State
    arms: tuple[ArmCount, ...]


class Decision(Frozen):
    """One entry of the log; `evidence` are the guardrails' findings."""

    id: str
    action: str
    actor: str
    reason: str
    before: State
    after: State
    evidence: tuple[Mapping[str, Any], ...] | None
    decided_at: datetime


class Mismatch(Frozen):
    """A shadow execution that differed from what was served."""

    exposure_id: str
    unit_id: str
    difference: Any
    found_at: datetime


class Log(Frozen):
    """Decisions and mismatches, the newest first."""

    decisions: tuple[Decision, ...]
    mismatches: tuple[Mismatch, ...]


async def standings(db: Database, project: str, flag: str | None = None) -> list[Standing]:
    """Return the rollouts of a project, or one of them.

    Raises:
        RolloutError: there is none of that name.
    """
    answer = await db.call("llm_rollout_status", {"project": project, "flag": flag})
    found = [Standing.model_validate(each) for each in answer["rollouts"]]
    if flag is not None and not found:
        raise RolloutError(await _unknown(db, project, flag))
    return found


async def log(db: Database, project: str, flag: str, limit: int = 50) -> Log:
    """Return what was decided, and what shadow executions differed in."""
    answer = await db.call("llm_rollout_log", {"project": project, "flag": flag, "limit": limit})
    return Log.model_validate(answer)


def wanted(value: str) -> dict[str, Any]:
    """Return what ``off``, ``shadow``, ``on`` or a percentage changes. Pure.

    Raises:
        InvalidInputError: it is none of them.
    """
    word = value.strip().lower().removesuffix("%").strip()
    if word in {"off", "shadow"}:
        return {"mode": word, "share": 0, "ramp": None}
    if word == "on":
        return {"mode": "on", "share": BUCKETS, "ramp": None}
    try:
        return {"mode": "percent", "share": share_of(word), "ramp": None}
    except InvalidInputError as error:
        raise InvalidInputError(f"set off, shadow, on or a percentage: {error}") from None


def ramp_of(steps: str, min_exposures: int, min_minutes: float) -> Ramp:
    """Return a plan from ``10,50,100``. Pure.

    Raises:
        InvalidInputError: the steps do not rise, or a bound is negative.
    """
    shares = tuple(share_of(step.strip()) for step in steps.split(","))
    rises = all(a < b for a, b in pairwise(shares))
    if not rises or shares[0] == 0:
        raise InvalidInputError(
            f"the steps of a ramp rise from above 0 to 100, such as 10,50,100, not {steps!r}"
        )
    if min_exposures < 1 or not min_minutes >= 0:
        raise InvalidInputError("a ramp needs 1 exposure or more, and 0 minutes or more, per step")
    return Ramp(steps=shares, min_exposures=min_exposures, min_seconds=min_minutes * 60)


async def change(
    db: Database, project: str, flag: str, action: str, *, reason: str, to: Mapping[str, Any]
) -> State:
    """Write a person's decision down; it is in force in each process within one poll.

    Args:
        action: ``set``, ``ramp`` or ``reset``.
        to: the parts of the state that change.

    Raises:
        InvalidInputError: a reset without a reason.
        RolloutError: no such rollout, or it was rolled back and is not reset.
    """
    if action == "reset" and not reason.strip():
        raise InvalidInputError("say why it may be tried again: the reason stays in the log")
    decision = {
        "decision_id": str(uuid4()),
        "project": project,
        "flag": flag,
        "action": action,
        "actor": _who(),
        "reason": reason,
        "revision": None,
        "to": dict(to),
    }
    answer = await db.call("llm_rollout_decide", decision)
    match answer.get("refused"):
        case "unknown":
            raise RolloutError(await _unknown(db, project, flag))
        case "latched":
            raise RolloutError(
                f"{flag} was rolled back ({answer['state']['latched']}): "
                "run `llm-common rollout reset` with a reason first"
            )
        case _:
            return State.model_validate(answer["state"])


def described(state: State) -> str:
    """Say in a few words what is stored. Pure."""
    match state.mode:
        case None:
            return "not set"
        case "percent":
            return f"{percent_of(state.share)} %"
        case _:
            return "rolled back" if state.latched else state.mode


def only(found: Sequence[Standing], project: str) -> str:
    """Return the name of the project's only rollout.

    Raises:
        InvalidInputError: there are several, or none.
    """
    names = [each.state.flag for each in found]
    if len(names) == 1:
        return names[0]
    if not names:
        raise InvalidInputError(
            f"project {project} has no rollout: it is there once the host has started"
        )
    raise InvalidInputError(f"say which with --flag: {', '.join(names)}")


async def _unknown(db: Database, project: str, flag: str) -> str:
    known = [each.state.flag for each in await standings(db, project)]
    names = ", ".join(known) or "none; a rollout is there once its host has started"
    return f"project {project} has no rollout {flag!r}: it has {names}"


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return "somebody"
