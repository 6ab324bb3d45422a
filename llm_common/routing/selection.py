"""Which deployment is next: of the preferred model, the key whose turn it is. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..types import Lane, Standing


@dataclass(frozen=True, slots=True)
class Send:
    """Send to the lane at this place; its rate limits may still make the request wait."""

    place: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in `delay_s` seconds: every lane is to be left alone until then."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send nothing: the first lane is free in `retry_after_s` seconds, which is too long.

    Attributes:
        down: its circuit is open; otherwise it is limited or cools down.
    """

    retry_after_s: float
    down: bool


Choice = Send | Wait | Refuse


def choose(
    lanes: Sequence[Lane],
    standings: Sequence[Standing],
    *,
    patience_s: float,
    remaining_s: float,
    stay: str | None = None,
) -> Choice:
    """Choose among lanes in order of preference.

    Among the keys of a model the one that has room first is taken, then the one whose turn it is.
    A model whose keys are all blocked, or limited beyond patience, gives way to the next. Where
    none is left, rate limits of the host are waited for as long as the operation may take, since
    they are a wish to go slowly; what the provider imposes is waited for within patience.

    Args:
        lanes: those of one group next to one another.
        standings: of each lane, in the same order.
        patience_s: the longest wait for a lane that is blocked.
        remaining_s: what is left of the operation's time.
        stay: id of the lane to keep to, if it may be sent to.
    """
    free = [place for place, each in enumerate(standings) if each.blocked_s <= 0]
    ready = [place for place in free if standings[place].limited_s <= patience_s]
    for place in ready:
        if lanes[place].id == stay:
            return Send(place)
    if ready:
        group = lanes[ready[0]].group
        keys = (place for place in ready if lanes[place].group == group)
        return Send(min(keys, key=lambda place: _turn(standings[place])))
    waits = [max(each.blocked_s, each.limited_s) for each in standings]
    soonest = min(range(len(lanes)), key=waits.__getitem__)
    wait_s, standing = waits[soonest], standings[soonest]
    if wait_s < remaining_s:
        if standing.blocked_s <= 0:
            return Send(soonest)
        if standing.blocked_s <= patience_s:
            return Wait(standing.blocked_s)
    return Refuse(wait_s, standing.down)


def _turn(standing: Standing) -> tuple[float, tuple[float, ...]]:
    return standing.limited_s, standing.load
