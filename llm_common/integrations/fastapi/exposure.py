"""The arm of a request as a dependency."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from fastapi import Request

from ...rollout import Exposure, Rollout


def exposed(
    rollout: Rollout,
    unit: Callable[[Request], object],
    attributes: Callable[[Request], Mapping[str, str]] | None = None,
) -> Callable[[Request], AsyncGenerator[Exposure]]:
    """Return a dependency that shows a request its arm and records how the request ends.

    The endpoint branches by ``shown.arm``; what it raises is the arm's failure, and nothing falls
    back: for that the endpoint calls `Rollout.run` itself.

    Args:
        unit: returns the id of the unit, such as a header of the user; None runs the old arm.
        attributes: returns what segments go by.

    Example:
        ``async def analyze(shown: Annotated[Exposure, Depends(exposed(rollout, user_of))]): ...``
    """

    async def shown(request: Request) -> AsyncGenerator[Exposure]:
        about: Any = attributes(request) if attributes else None
        async with rollout.exposure(unit(request), about) as exposure:
            yield exposure

    return shown
