"""The new arm beside the old one: in the background, bounded, and it leaves only what it cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..context import SHADOW, current, labels
from ..cost_tracker import Limit
from ..errors import BudgetError, InvalidInputError
from ..telemetry import event
from .models import Shadowing

T = TypeVar("T")

MOST_AT_ONCE = 8
"""Shadow executions of one process; further ones are left out, and recorded as refused."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """How a host executes in the shadow, and compares.

    Attributes:
        compare: takes the old and the new result and returns None where they agree, else what
            differs, as anything that JSON can hold: it is stored, so it should hold nothing secret.
            Without a comparator nothing is compared.
        timeout_s: seconds after which a shadow execution is cancelled.

    Raises:
        InvalidInputError: a timeout that is not above 0.
    """

    compare: Callable[[Any, Any], Any] | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise InvalidInputError(f"timeout_s is a number above 0, not {self.timeout_s!r}")


@dataclass(frozen=True, slots=True)
class Compared:
    """How a shadow execution ended.

    Attributes:
        status: as of an outcome; ``refused`` by the cost cap, or because too many run.
        matched: None where there was nothing to compare.
    """

    status: str
    error_class: str | None = None
    matched: bool | None = None
    difference: Any = None


async def execute(
    flag: str, settings: Shadow, stored: Shadowing, new: Callable[[], Awaitable[T]], result: Any
) -> Compared:
    """Execute the new arm in the shadow and compare it with what was served.

    Its calls count against a strict daily budget of the flag's shadow, its writes are refused (see
    `context.refuse_in_shadow`), and its failure is nobody's but its own.
    """
    tag = f"shadow:{flag}"
    limit = Limit("tag", tag, "day", stored.daily_usd)
    outer = current()
    shadow = labels(arm=SHADOW, tags=(*outer.tags, tag), limits=(*outer.limits, limit))
    try:
        with shadow:
            async with asyncio.timeout(settings.timeout_s):
                shown = await new()
    except BudgetError as error:
        return Compared("refused", type(error).__name__)
    except Exception as error:  # noqa: BLE001 - whatever a host's new code raises
        return Compared("error", type(error).__name__)
    return compared(flag, settings, result, shown)


def compared(flag: str, settings: Shadow, result: Any, shown: Any) -> Compared:
    """Compare two results; a comparator that fails says nothing about the arms."""
    if settings.compare is None:
        return Compared("ok")
    try:
        difference = settings.compare(result, shown)
    except Exception as error:  # noqa: BLE001 - the host's own code
        name = type(error).__name__
        event("rollout.not_compared", level=logging.WARNING, flag=flag, error=name)
        return Compared("ok")
    return Compared("ok", None, difference is None, difference)


def columns_of(compared: Compared) -> Mapping[str, Any]:
    """Return what an outcome's row says of a comparison."""
    return {
        "status": compared.status,
        "error_class": compared.error_class,
        "matched": compared.matched,
        "difference": compared.difference,
    }
