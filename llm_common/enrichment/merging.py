"""From evidence to a cell: the best value, how sure it is, and what speaks against it. Pure.

The confidence is a product, rounded to three places, and never the model's own word:

* by verdict: verified 0.8, repaired 0.7, unverified 0.3, outdated 0.2, conflict half of what its
  best value would have;
* one independent source more (another registered domain that bears out the same value) takes a
  half off what is missing to 1, the next again a half;
* an official source takes a half off what is missing as well;
* a page older than a year costs a tenth of it for each further year, at most the half;
* another borne-out value that was outranked costs a tenth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from ..crawling.urls import registered_domain
from .columns import identity
from .models import Cell, Column, Evidence, Verdict
from .outdated import age_of

PROVEN: tuple[Verdict, ...] = ("verified", "repaired")
BASE: dict[Verdict, float] = {"verified": 0.8, "repaired": 0.7, "unverified": 0.3, "outdated": 0.2}
_YEAR_DAYS = 365
_NEVER = ""


def merge(column: Column, evidence: Sequence[Evidence], *, now: datetime | None = None) -> Cell:
    """Return the cell that evidence makes, in whatever order it came.

    Borne-out values come before outdated ones, these before unverified ones. Of several borne-out
    values, the one with an official source wins over those without; of two with official sources,
    or two without, the one whose page is newer, if both have dates; then the one that more
    independent sources bear out, if the other has one alone. Where nothing tells them apart, the
    cell is a ``conflict``: it shows the likelier value and is not settled.

    Args:
        now: for the age of pages; None takes no account of it.
    """
    values = [one for one in evidence if one.value is not None]
    if not values:
        reasons = sorted({one.reason for one in evidence if one.reason})
        return Cell(reason="; ".join(reasons) or "nothing was found")
    groups: dict[str, list[Evidence]] = {}
    for one in values:
        groups.setdefault(identity(column, one.value), []).append(one)
    ranked = sorted(groups.values(), key=_order_of)
    best, rest = _winner(ranked)
    chosen = min(best, key=_order)
    rivals = [group for group in rest if _level(group) == 0] if _level(best) == 0 else []
    is_open = any(not _outranks(best, group) for group in rivals)
    sure = _confidence(chosen.verdict, best, now) * 0.9 ** bool(rivals) * (0.5 if is_open else 1)
    return Cell(
        value=chosen.value,
        verdict="conflict" if is_open else chosen.verdict,
        quote=chosen.quote,
        url=chosen.url,
        confidence=round(sure, 3),
        reason="sources that are as good say otherwise" if is_open else chosen.reason,
        conflicts=tuple(min(group, key=_order) for group in rest),
    )


def domain_of(url: str | None) -> str | None:
    """Return the registered domain of a URL: pages of one are one source. None without one."""
    try:
        host = urlsplit(url or "").netloc.lower()
    except ValueError:
        return None
    return registered_domain(host) if host else None


def _winner(ranked: list[list[Evidence]]) -> tuple[list[Evidence], list[list[Evidence]]]:
    """Return the group that outranks every other that is as proven, else the first in order."""
    level = _level(ranked[0])
    peers = [group for group in ranked if _level(group) == level]
    for group in peers:
        if all(_outranks(group, other) for other in peers if other is not group):
            return group, [other for other in ranked if other is not group]
    return ranked[0], ranked[1:]


def _outranks(ours: list[Evidence], theirs: list[Evidence]) -> bool:
    """Whether a value settles what another says; never both ways."""
    if _is_official(ours) != _is_official(theirs):
        return _is_official(ours)
    one, other = _newest(ours), _newest(theirs)
    if one and other and one != other:
        return one > other
    mine, others = _sources(ours), _sources(theirs)
    return mine > 1 >= others


def _level(group: list[Evidence]) -> int:
    verdicts = {one.verdict for one in group}
    return 0 if verdicts & set(PROVEN) else 1 if "outdated" in verdicts else 2


def _proven(group: list[Evidence]) -> list[Evidence]:
    return [one for one in group if one.verdict in PROVEN] or group


def _is_official(group: list[Evidence]) -> bool:
    return any(one.is_official for one in _proven(group))


def _newest(group: list[Evidence]) -> str:
    """Return the latest date of what counts: of the official pages, where there are such."""
    official = [one for one in _proven(group) if one.is_official]
    return max((_day(one) for one in official or _proven(group)), default=_NEVER)


def _sources(group: Iterable[Evidence]) -> int:
    domains = {domain_of(one.url) for one in group if one.verdict in PROVEN}
    return len(domains - {None})


def _day(one: Evidence) -> str:
    return (one.dated or _NEVER)[:10]


def _order(one: Evidence) -> tuple[object, ...]:
    """Order evidence for the same value, the best first; no two are equal by chance."""
    verdicts = ("verified", "repaired", "outdated", "unverified", "conflict", "missing")
    newest = [-ord(char) for char in _day(one).ljust(10)]
    text = (one.url or "~", one.quote or "~", str(one.value), one.reason or "", one.dated or "")
    return (verdicts.index(one.verdict), not one.is_official, newest, *text)


def _order_of(group: list[Evidence]) -> tuple[object, ...]:
    return (_level(group), not _is_official(group), -_sources(group), min(map(_order, group)))


def _confidence(verdict: Verdict, group: list[Evidence], now: datetime | None) -> float:
    sure = BASE.get(verdict, 0.0)
    if verdict in PROVEN:
        halvings = max(0, _sources(group) - 1) + _is_official(group)
        sure = 1 - (1 - sure) * 0.5**halvings
    age = age_of(_newest(group) or None, now) if now else None
    years = max(0, age.days // _YEAR_DAYS) if age else 0
    return sure * max(0.5, 1 - 0.1 * years)
