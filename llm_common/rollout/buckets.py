"""Which bucket a unit is in, and shares as whole numbers. Pure.

A unit's bucket is a hash of flag and unit, so it is the same in every process, at every time and
for every share: a share that grows takes units in and never moves one out.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from hashlib import sha256
from uuid import UUID

from ..errors import InvalidInputError

BUCKETS = 10_000
"""A bucket is 0.01 %."""

UnitId = str | int | UUID


def bucket(flag: str, unit_id: UnitId) -> int:
    """Return the bucket of a unit, 0 to 9,999: the first 8 bytes of SHA-256, modulo 10,000.

    Two flags cut the units differently: the flag is a part of what is hashed.

    Raises:
        InvalidInputError: the unit has no id.
    """
    name = unit_name(unit_id)
    if name is None:
        raise InvalidInputError(f"a unit of rollout {flag} needs an id, not {unit_id!r}")
    digest = sha256(f"{flag}\0{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def unit_name(unit_id: object) -> str | None:
    """Return a unit's id as text; None where it is none: absent, empty, or of another type."""
    if isinstance(unit_id, bool) or not isinstance(unit_id, str | int | UUID):
        return None
    return str(unit_id) or None


def share_of(percent: object) -> int:
    """Return a percentage as a number of buckets.

    Args:
        percent: 0 to 100, a number or its text, in steps of 0.01.

    Raises:
        InvalidInputError: it is something else.
    """
    try:
        number = Decimal(str(percent))
    except InvalidOperation:
        number = Decimal("nan")
    if isinstance(percent, bool) or not number.is_finite() or not 0 <= number <= 100:
        raise InvalidInputError(f"a percentage is a number from 0 to 100, not {percent!r}")
    share = number * 100
    if share != int(share):
        raise InvalidInputError(f"a percentage goes in steps of 0.01, not {percent!r}")
    return int(share)


def percent_of(share: int) -> str:
    """Write a number of buckets as a percentage, such as ``12.5``."""
    return f"{(Decimal(share) / 100).normalize():f}"
