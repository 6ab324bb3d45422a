"""What the two arms of a rollout did since its stage began: the input of the guardrails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..errors import InvalidInputError
from .buckets import BUCKETS


@dataclass(frozen=True, slots=True)
class ArmTally:
    """What one arm did in this epoch; only units that the hash assigned, not those on a list.

    Attributes:
        units: distinct units by the share of the new arm in force for them, in basis points from 1
            to 9999.
        finished: outcomes, ok or error; refusals by a budget and cancellations are neither.
        errors: how many of them failed.
        slow: how many of them took longer than `Guardrails.p95_s`.
        due: exposures old enough that their outcome should be stored.
        lost: how many of those have no stored outcome.
        vanished: outcomes that name a run whose row is gone.
        costs: known costs in USD, in the order of their outcomes, at most 1,000.
        unpriced: outcomes without a known cost.

    Raises:
        InvalidInputError: counts that can't be.
    """

    units: Mapping[int, int]
    finished: int = 0
    errors: int = 0
    slow: int = 0
    due: int = 0
    lost: int = 0
    vanished: int = 0
    costs: Sequence[Decimal] = ()
    unpriced: int = 0

    def __post_init__(self) -> None:
        parts = (("errors", "finished"), ("slow", "finished"), ("lost", "due"))
        for part, whole in parts:
            if not 0 <= getattr(self, part) <= getattr(self, whole):
                raise InvalidInputError(f"{part} must be from 0 to {whole}.")
        if self.vanished < 0 or self.unpriced < 0:
            raise InvalidInputError("vanished and unpriced must not be negative.")
        if any(not 0 < share < BUCKETS or n < 0 for share, n in self.units.items()):
            raise InvalidInputError(
                "units must map shares from 1 to 9999 basis points to numbers of units."
            )
        if any(not cost.is_finite() or cost < 0 for cost in self.costs):
            raise InvalidInputError("costs must be finite and not negative.")


@dataclass(frozen=True, slots=True)
class Tally:
    """What both arms did in this epoch.

    Attributes:
        failures_in_a_row: the latest outcomes of the new arm that failed, over all processes.
        has_control: False when every unit is shown the new arm, so that no concurrent control
            exists; `old.costs` then holds the latest known costs of the old arm.
        seconds: since the stage began.
    """

    new: ArmTally
    old: ArmTally
    failures_in_a_row: int
    has_control: bool
    seconds: float = 0
