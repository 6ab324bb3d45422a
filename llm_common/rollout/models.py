"""What is known of a rollout: its state as stored, and what a process makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from ..types import Frozen
from .buckets import BUCKETS

Mode = Literal["off", "shadow", "percent", "on"]
Arm = Literal["old", "new"]
Status = Literal["ok", "error", "refused", "cancelled"]


class Segment(Frozen):
    """Units with an attribute have a share of their own.

    Attributes:
        attribute: its name, such as ``jurisdiction``.
        values: any of these.
        share: in basis points.
    """

    attribute: str
    values: tuple[str, ...]
    share: int


class Shadowing(Frozen):
    """How much is executed in the shadow.

    Attributes:
        share: of the units, in basis points.
        daily_usd: strict budget of one day.
    """

    share: int = BUCKETS
    daily_usd: Decimal = Decimal(1)


class Ramp(Frozen):
    """How a rollout advances by itself.

    Attributes:
        steps: shares in basis points, rising.
        min_exposures: outcomes of the new arm before the next step.
        min_seconds: that a step lasts at least.
    """

    steps: tuple[int, ...]
    min_exposures: int
    min_seconds: float

    def after(self, share: int) -> int | None:
        """Return the step that follows a share, if there is one."""
        return next((step for step in self.steps if step > share), None)


class State(Frozen):
    """A rollout as it is stored.

    Attributes:
        mode: None until somebody sets it.
        share: of the units that are shown the new arm in mode ``percent``, in basis points.
        allow: units that are shown the new arm whatever their bucket is.
        deny: units that never are.
        latched: why it was rolled back, until a person resets it.
        revision: counts the decisions.
    """

    project: str
    flag: str
    mode: Mode | None = None
    share: int = 0
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    segments: tuple[Segment, ...] = ()
    shadow: Shadowing = Shadowing()
    ramp: Ramp | None = None
    latched: str | None = None
    revision: int = 0
    stage_at: datetime


@dataclass(frozen=True, slots=True)
class Exposure:
    """A unit was shown an arm.

    Attributes:
        reason: why this arm: ``hash``, ``segment``, ``allowed``, ``denied``, ``on``, ``off``,
            ``shadow``, ``unset``, ``rolled_back``, ``environment``, ``fell_back``, or what was
            wrong: ``no_unit``, ``no_state``, ``stale``, ``bad_environment``, ``error``.
        share: of the new arm that was in force for the unit, in basis points.
        counted: the share decided, so that the two arms can be compared.
        revision: of the state that decided.
    """

    id: str
    unit_id: str
    arm: Arm
    reason: str
    share: int
    counted: bool
    revision: int
