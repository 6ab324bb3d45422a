"""Money that this process holds ahead of its calls: how much, for how long, and for which call.

Arithmetic only: `grants` asks the database for leases, `ledger` tells it what became of them. All
amounts are nano-dollars; the time is an argument everywhere, in seconds of `boot_clock`.

A lease serves a call if the call's bound fits what is free. When the call is settled, only its cost
stays used; the rest of its bound serves the next call. A lease is given back by closing it: no call
is served from it any more, and what it has returned grows as its calls end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .models import Limit

USABLE_S = 60.0
"""How long calls are served from a lease: a lowered limit binds within it."""
IDLE_S = 0.5
"""A lease that has served no call for so long is given back: others may wait for it, up to 1 s."""
OBSERVED_S = 60
"""The stretch of spending that a lease is sized by."""
EVERYTHING = 2**62
"""More than any lease holds: what is returned of one whose grant was not seen."""

Attempt = tuple[str, int]
Key = tuple[str, tuple[Limit, ...]]
"""Project and limits: calls with the same ones are served from the same leases."""


def boot_clock() -> float:
    """Return seconds since boot, those in suspension included where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Observed:
    """What was spent in the last `OBSERVED_S` seconds, by the second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()
        self._since: int | None = None

    def add(self, nano: int, now: float) -> None:
        """Count a cost."""
        second = int(now)
        if self._since is None:
            self._since = second
        if self._seconds and self._seconds[-1][0] == second:
            nano += self._seconds.pop()[1]
        self._seconds.append((second, nano))
        self._forget(second)

    def per_stretch(self, now: float) -> int:
        """Return what `OBSERVED_S` seconds come to at the observed rate."""
        second = int(now)
        self._forget(second)
        if self._since is None:
            return 0
        age = min(max(second - self._since, 1), OBSERVED_S)
        return sum(nano for _, nano in self._seconds) * OBSERVED_S // age

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - OBSERVED_S:
            self._seconds.popleft()
        if not self._seconds:
            self._since = None


def wish_nano(waiting: int, on_the_wire: int, observed: int) -> int:
    """Return the size of lease to wish for: less serves nobody, more would lie idle.

    The database grants at most that, 1 % of each limit, and a quarter of an even share of what
    remains of it.

    Args:
        waiting: sum of the bounds of the calls that wait for it.
        on_the_wire: sum of the bounds of calls that are being made; they will want it next.
        observed: what `OBSERVED_S` seconds cost, as observed.
    """
    return waiting + on_the_wire + observed


def floor_nano(bounds: Sequence[int]) -> int:
    """Return the least that a lease is worth: one that serves a single call is a hold."""
    return 2 * max(bounds)


@dataclass(slots=True, eq=False)
class Lease:
    """One grant.

    Attributes:
        ends: no call is served from it afterwards.
        longest_s: nor one whose deadline is further away: the database would give it up first.
        used: what the settled calls took, each at most its bound.
        reserved: bounds of the calls that are being made.
        stated: what the database knows to be returned; None before it knows it closed.
    """

    id: str
    key: Key
    granted: int
    day: str
    ends: float
    longest_s: float
    last_served: float
    used: int = 0
    reserved: int = 0
    is_open: bool = True
    stated: int | None = None

    def serves(self, bound: int, timeout_s: float, now: float) -> bool:
        """Tell whether a call fits."""
        free = self.granted - self.used - self.reserved
        return self.is_open and bound <= free and timeout_s <= self.longest_s and now < self.ends

    def returned(self) -> int:
        """Return all that has ever been given back."""
        return 0 if self.is_open else self.granted - self.used - self.reserved

    @property
    def has_news(self) -> bool:
        """Whether the database does not yet know what is returned."""
        return not self.is_open and self.stated != self.returned()


@dataclass(slots=True)
class Account:
    """The leases and the spending of calls with the same project and limits."""

    leases: list[Lease] = field(default_factory=list[Lease])
    observed: Observed = field(default_factory=Observed)
    on_the_wire: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that is being made: its account, its bound, and its lease unless it has a hold."""

    account: Account
    bound: int
    lease: Lease | None


class Leases:
    """Every lease of this process on one database, shared by its threads and event loops."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._accounts: dict[Key, Account] = {}
        self._leases: dict[str, Lease] = {}
        self._calls: dict[Attempt, _Call] = {}

    def serve(
        self, key: Key, attempt: Attempt, bound: int, timeout_s: float, now: float
    ) -> Lease | None:
        """Reserve the bound of a call in a lease; None if none has it free."""
        with self._guard:
            account = self._accounts.get(key)
            for lease in account.leases if account else ():
                if lease.serves(bound, timeout_s, now):
                    self._begin(attempt, bound, lease.key, lease, now)
                    return lease
            return None

    def add(self, lease: Lease) -> None:
        """Take a lease in; those of the same key that it replaces are given back."""
        with self._guard:
            account = self._accounts.setdefault(lease.key, Account())
            for old in account.leases:
                old.is_open = False
            account.leases.append(lease)
            self._leases[lease.id] = lease

    def begin(
        self, key: Key, attempt: Attempt, bound: int, lease_id: str | None, now: float
    ) -> None:
        """Count a call that the database has granted, out of a lease or by a hold of its own."""
        with self._guard:
            lease = self._leases[lease_id] if lease_id else None
            self._begin(attempt, bound, key, lease, now)

    def settle(self, attempt: Attempt, cost: int, now: float) -> None:
        """Keep what a call used, at most its bound, and free the rest; only the first time."""
        with self._guard:
            call = self._calls.pop(attempt, None)
            if call is None:
                return
            call.account.on_the_wire -= call.bound
            call.account.observed.add(cost, now)
            if call.lease is not None:
                call.lease.reserved -= call.bound
                call.lease.used += min(cost, call.bound)

    def wish(self, key: Key, bounds: Sequence[int], now: float) -> int:
        """Return the size of lease to wish for; see `wish_nano`."""
        with self._guard:
            account = self._accounts.setdefault(key, Account())
            observed = account.observed.per_stretch(now)
            return wish_nano(sum(bounds), account.on_the_wire, observed)

    def close(self, now: float, *, idle_only: bool = False) -> None:
        """Give leases back: those that have ended or lie idle, or all of them."""
        with self._guard:
            for lease in self._leases.values():
                if not idle_only or now >= min(lease.ends, lease.last_served + IDLE_S):
                    lease.is_open = False
            self._forget(now)

    @property
    def are_open(self) -> bool:
        """Whether any lease may still serve calls."""
        with self._guard:
            return any(lease.is_open for lease in self._leases.values())

    @property
    def have_news(self) -> bool:
        """Whether there is anything to tell the database."""
        with self._guard:
            return any(lease.has_news for lease in self._leases.values())

    def statements(self, owner: str, project: str | None = None) -> list[dict[str, Any]]:
        """Return what the database should know, as `llm_settle` and `llm_reserve` take it."""
        with self._guard:
            return [
                {
                    "lease_id": lease.id,
                    "project": lease.key[0],
                    "owner": owner,
                    "returned_nano": lease.returned(),
                    "is_closed": not lease.is_open,
                }
                for lease in self._leases.values()
                if (lease.is_open or lease.has_news) and project in (None, lease.key[0])
            ]

    def heard(self, said: Iterable[dict[str, Any]], answers: Iterable[dict[str, Any]]) -> bool:
        """Note what the database knows now; close what it calls back, and tell if it did."""
        is_recalled = False
        with self._guard:
            for statement in said:
                lease = self._leases.get(statement["lease_id"])
                if lease is not None and statement["is_closed"]:
                    lease.stated = statement["returned_nano"]
            for answer in answers:
                lease = self._leases.get(answer["lease_id"])
                if lease is not None and answer["recalled"] and lease.is_open:
                    lease.is_open, is_recalled = False, True
        return is_recalled

    def over(self) -> list[str]:
        """Forget leases of which nothing is left to say, and return their ids."""
        with self._guard:
            over = [
                lease
                for lease in self._leases.values()
                if not (lease.is_open or lease.reserved or lease.has_news)
            ]
            for lease in over:
                del self._leases[lease.id]
                self._accounts[lease.key].leases.remove(lease)
            return [lease.id for lease in over]

    def _begin(
        self, attempt: Attempt, bound: int, key: Key, lease: Lease | None, now: float
    ) -> None:
        account = self._accounts.setdefault(key, Account())
        account.on_the_wire += bound
        if lease is not None:
            lease.reserved += bound
            lease.last_served = now
        self._calls[attempt] = _Call(account, bound, lease)

    def _forget(self, now: float) -> None:
        """Forget accounts without leases, calls and spending: runs and jobs have their own."""
        for key, account in list(self._accounts.items()):
            if not (account.leases or account.on_the_wire or account.observed.per_stretch(now)):
                del self._accounts[key]
