"""From state and environment to the arm of a unit. Pure, and without a query.

`docs/rollout.md` has the truth table; `tests/rollout/test_evaluation.py` goes through its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .buckets import BUCKETS, bucket, unit_name
from .environment import Environment
from .models import Arm, Mode, Segment, State


@dataclass(frozen=True, slots=True)
class Force:
    """What is in force for the units of a rollout.

    Attributes:
        mode: never None: what nobody has set is off.
        share: of the new arm, in basis points.
        reason: says why; see `Exposure.reason`.
    """

    mode: Mode
    share: int
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The arm of a unit; see `Exposure`.

    Attributes:
        is_shadowed: the new arm is executed beside the old one.
    """

    arm: Arm
    reason: str
    unit: str = ""
    share: int = 0
    counted: bool = False
    revision: int = 0
    is_shadowed: bool = False


def in_force(state: State | None, env: Environment, *, has_database: bool = True) -> Force:
    """Decide what the environment and the stored state mean together.

    ``false`` always wins; then whatever says off: a state that can't be read, a rollback, a stored
    ``off``. What remains is overridden by ``true``, then by the percentage.

    Args:
        state: as stored; None where it is not known.
        has_database: a host without one has the environment alone.
    """
    if env.problem is not None:
        return Force("off", 0, "bad_environment")
    if env.use is False:
        return Force("off", 0, "environment")
    if has_database and state is None:
        return Force("off", 0, "no_state")
    if state is not None and state.latched is not None:
        return Force("off", 0, "rolled_back")
    if state is not None and state.mode == "off":
        return Force("off", 0, "off")
    if env.use:
        return Force("on", BUCKETS, "environment")
    if env.share is not None:
        return Force("percent", env.share, "environment")
    if state is None or state.mode is None:
        return Force("off", 0, "unset")
    if state.mode == "on":
        return Force("on", BUCKETS, "on")
    return Force(state.mode, state.share if state.mode == "percent" else 0, "hash")


def choose(
    flag: str,
    state: State | None,
    force: Force,
    unit_id: object,
    attributes: Mapping[str, str] | None = None,
) -> Choice:
    """Return the arm of a unit under what is in force."""
    unit = unit_name(unit_id)
    revision = state.revision if state else 0
    if unit is None:
        return Choice("old", "no_unit", revision=revision)
    if force.mode == "off":
        return Choice("old", force.reason, unit, revision=revision)
    if state is not None and unit in state.deny:
        return Choice("old", "denied", unit, revision=revision)
    is_allowed = state is not None and unit in state.allow
    if force.mode == "shadow":
        return Choice(
            "old", "shadow", unit, 0, False, revision, is_allowed or _is_sampled(flag, state, unit)
        )
    if force.mode == "on":
        return Choice("new", force.reason, unit, BUCKETS, True, revision)
    if is_allowed:
        return Choice("new", "allowed", unit, BUCKETS, False, revision)
    # A percentage from the environment is for all alike.
    segment = None if force.reason == "environment" else segment_of(state, attributes or {})
    share = force.share if segment is None else segment.share
    reason = force.reason if segment is None else "segment"
    arm: Arm = "new" if bucket(flag, unit) < share else "old"
    return Choice(arm, reason, unit, share, True, revision)


def segment_of(state: State | None, attributes: Mapping[str, str]) -> Segment | None:
    """Return the first segment that the attributes fall into."""
    segments = state.segments if state else ()
    return next(
        (s for s in segments if s.attribute in attributes and attributes[s.attribute] in s.values),
        None,
    )


def _is_sampled(flag: str, state: State | None, unit: str) -> bool:
    """Sample units by a hash of its own: whoever is first in the shadow need not be first later."""
    return state is not None and bucket(f"{flag}/shadow", unit) < state.shadow.share
