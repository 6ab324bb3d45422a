"""Whose turn it is: the best URL of a host that may be asked now. Pure: moments are arguments."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from .models import Reason

Rank = tuple[float, ...]
"""The smaller, the sooner."""

LONGEST_CRAWL_DELAY_S = 30.0
"""A longer Crawl-delay of a robots.txt counts as this one: some ask for a day."""
LONGEST_WAIT_S = 3_600.0
"""A longer Retry-After counts as this one."""
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0


def backoff_s(attempts: int, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after so many tries: doubling, half of it by chance."""
    full = min(FIRST_BACKOFF_S * 2 ** (attempts - 1), LONGEST_BACKOFF_S)
    return full * (1 + jitter()) / 2


def host_pause_s(reason: Reason, status: int | None, retry_after_s: float | None) -> float | None:
    """Return how long a host wants to be left alone, None where one URL alone failed.

    Retry-After with any failure (RFC 9110, 10.2.3); without it, 429 and 503 speak for the host
    too, for as long as the URL's own backoff: that is 0 here.
    """
    if retry_after_s is not None:
        return min(max(retry_after_s, 0.0), LONGEST_WAIT_S)
    return 0.0 if reason is Reason.RATE_LIMITED or status == 503 else None


@dataclass(slots=True)
class _Host:
    queue: list[tuple[Rank, str]] = field(default_factory=list[tuple[Rank, str]])
    next_at: float = 0.0
    held_until: float = 0.0
    delay_s: float = 0.0
    in_flight: int = 0
    is_known: bool = False
    shown: tuple[Rank, str] | None = None
    alarm_at: float | None = None

    @property
    def ready_at(self) -> float:
        return max(self.next_at, self.held_until)


class Schedule:
    """Queues by host; each step costs the logarithm of their number, however many hosts wait.

    Args:
        is_current: whether a URL waits under a rank at a moment: what was pushed may be outdated.
    """

    def __init__(
        self, delay_s: float, per_host: int, is_current: Callable[[str, Rank, float], bool]
    ) -> None:
        self._delay_s = delay_s
        self._per_host = per_host
        self._is_current = is_current
        self._hosts: dict[str, _Host] = {}
        self._awake: list[tuple[Rank, str, str]] = []
        self._asleep: list[tuple[float, str]] = []
        self._later: list[tuple[float, Rank, str, str]] = []

    def push(self, host: str, url: str, rank: Rank, *, now: float, not_before: float = 0) -> None:
        """Queue a URL, or queue it again under a new rank."""
        if not_before > now:
            heappush(self._later, (not_before, rank, host, url))
            return
        heappush(self._host(host).queue, (rank, url))
        self._rouse(host, now)

    def pick(self, now: float) -> str | None:
        """Take the best URL that may be asked for now, and count it as in flight."""
        self._wake(now)
        while self._awake:
            rank, url, name = heappop(self._awake)
            host = self._hosts[name]
            if host.shown != (rank, url):
                continue
            host.shown = None
            if self._head(host, now) == (rank, url) and self._may_go(host, now):
                heappop(host.queue)
                host.in_flight += 1
                host.next_at = max(now, host.next_at) + host.delay_s
                self._rouse(name, now)
                return url
            self._rouse(name, now)
        return None

    def ended(self, name: str, *, now: float, asked: bool = True) -> None:
        """Count a URL as no longer in flight; one that was not asked for costs no delay."""
        host = self._hosts[name]
        host.in_flight -= 1
        if not asked:
            host.next_at -= host.delay_s
        self._rouse(name, now)

    def learned(self, name: str, crawl_delay_s: float | None, *, now: float) -> None:
        """Take note of a host's robots.txt; until then one request to it is in flight at most."""
        host = self._hosts[name]
        if host.is_known:
            return
        host.is_known = True
        longer = min(crawl_delay_s or 0.0, LONGEST_CRAWL_DELAY_S)
        host.delay_s = max(self._delay_s, longer)
        host.next_at = now + host.delay_s
        self._rouse(name, now)

    def hold(self, name: str, until: float, *, now: float) -> None:
        """Leave a host alone until a moment."""
        host = self._host(name)
        host.held_until = max(host.held_until, until)
        self._rouse(name, now)

    def next_at(self) -> float | None:
        """Return when `pick` may have something again without anything ending; None: never."""
        moments = [heap[0][0] for heap in (self._asleep, self._later) if heap]
        return min(moments, default=None)

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(delay_s=self._delay_s)
        return self._hosts[name]

    def _head(self, host: _Host, now: float) -> tuple[Rank, str] | None:
        while host.queue:
            rank, url = host.queue[0]
            if self._is_current(url, rank, now):
                return rank, url
            heappop(host.queue)
        return None

    def _may_go(self, host: _Host, now: float) -> bool:
        most = self._per_host if host.is_known else 1
        return host.in_flight < most and host.ready_at <= now

    def _rouse(self, name: str, now: float) -> None:
        """Show a host's best URL among those that may go, or say when the host may."""
        host = self._hosts[name]
        head = self._head(host, now)
        if head is None:
            return
        if self._may_go(host, now):
            if host.shown != head:
                host.shown = head
                heappush(self._awake, (*head, name))
        elif host.ready_at > now and host.alarm_at != host.ready_at:
            host.alarm_at = host.ready_at
            heappush(self._asleep, (host.ready_at, name))

    def _wake(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, rank, host, url = heappop(self._later)
            heappush(self._host(host).queue, (rank, url))
            self._rouse(host, now)
        while self._asleep and self._asleep[0][0] <= now:
            name = heappop(self._asleep)[1]
            self._hosts[name].alarm_at = None
            self._rouse(name, now)
