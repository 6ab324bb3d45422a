"""The frontier of a crawl in memory: what is known, in which state, and what comes next. Pure.

The table `llm_crawl_urls` is its durable half: whatever changes here is `take_changed` and
written in one turn, and a frontier is made again from its rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .config import CrawlConfig, Strategy
from .models import MOST_REDIRECTS, PASSING, Fetched, Reason
from .politeness import Rank, Schedule, backoff_s, host_pause_s
from .scope import Scope, Shapes
from .urls import host_of

State = Literal["queued", "claimed", "done"]

MOST_URLS = 1_000_000
"""So many URLs of one crawl are kept, at about 0.6 kB of memory each; the rest are counted."""
LINKS_PER_PAGE = 1 << 20
"""A place in the order of discovery is: page * this + link."""

_ADMITTED = frozenset({Reason.TOO_DEEP})
"""Reasons of URLs that were not asked for, and may be when they are found on a shorter way."""


@dataclass(slots=True)
class Entry:
    """One URL of the frontier: a row of `llm_crawl_urls`; moments are seconds since 1970.

    Attributes:
        found_order: the page that it was found on, times `LINKS_PER_PAGE`, plus its place there.
        hops: redirects that led here from a link.
        interruptions: how often a process ended while it asked for this URL.
    """

    url: str
    host: str
    depth: int
    found_order: int
    parent: str | None = None
    score: float = 0.0
    hops: int = 0
    state: State = "queued"
    reason: Reason | None = None
    attempts: int = 0
    interruptions: int = 0
    not_before: float | None = None
    status: int | None = None
    redirect_to: str | None = None
    content_hash: str | None = None
    media_type: str | None = None
    duplicate_of: str | None = None
    fetched_at: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A way to a URL: a seed, a link of a page, a line of a sitemap, the target of a redirect."""

    url: str
    depth: int
    found_order: int
    parent: str | None = None
    score: float = 0.0
    hops: int = 0


def rank_of(strategy: Strategy, entry: Entry) -> Rank:
    """Return an entry's place in the order of a strategy."""
    page, link = divmod(entry.found_order, LINKS_PER_PAGE)
    if strategy == "breadth_first":
        return (entry.depth, entry.found_order)
    if strategy == "depth_first":
        return (-page, link)
    return (-entry.score, entry.depth, entry.found_order)


class Frontier:
    """What a crawl knows of URLs.

    Attributes:
        pages: URLs that answered with a document.
        in_flight: URLs that are claimed.
        dropped: how many URLs were found beyond `MOST_URLS`.
    """

    def __init__(self, config: CrawlConfig, scope: Scope) -> None:
        self.pages = 0
        self.in_flight = 0
        self.dropped = 0
        self._config = config
        self._scope = scope
        self._shapes = Shapes(config.max_alike)
        self._entries: dict[str, Entry] = {}
        self._changed: dict[str, Entry] = {}
        self._expansions = 0
        self._first_with: dict[str, str] = {}
        self._schedule = Schedule(
            config.per_host_delay_s, config.per_host_concurrency, self._is_current
        )

    def restore(self, entries: Iterable[Entry], now: float) -> None:
        """Take up what an earlier process left; hosts that wanted to be left alone still are."""
        for entry in sorted(entries, key=lambda e: (e.fetched_at or 0.0, e.found_order)):
            self._entries[entry.url] = entry
            self._expansions = max(self._expansions, entry.found_order // LINKS_PER_PAGE)
            if entry.reason not in (Reason.OUT_OF_SCOPE, Reason.OVER_LIMIT, Reason.TOO_DEEP):
                self._shapes.admit(entry.url)
            if entry.content_hash:
                self.pages += 1
                self._first_with.setdefault(entry.content_hash, entry.url)
            if entry.state == "queued":
                self._push(entry, now)
                if entry.not_before and entry.not_before > now:
                    self._schedule.hold(entry.host, entry.not_before, now=now)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, url: str) -> Entry:
        return self._entries[url]

    def next_expansion(self) -> int:
        """Return the first place in the order of discovery for one more page's links."""
        self._expansions += 1
        return self._expansions * LINKS_PER_PAGE

    def offer(self, found: Found, now: float) -> Entry | None:
        """Take note of a way to a URL.

        Returns the entry where the way is shorter than what was known of a URL that has been
        read: what it leads to is nearer too, so that the caller offers that again.
        """
        entry = self._entries.get(found.url)
        if entry is not None:
            return self._improve(entry, found, now)
        if len(self._entries) >= MOST_URLS:
            self.dropped += 1
            return None
        host = host_of(found.url)
        entry = Entry(
            found.url, host, found.depth, found.found_order, found.parent, found.score, found.hops
        )
        self._entries[found.url] = self._changed[found.url] = entry
        self._admit(entry, now)
        return None

    def claim(self, now: float) -> list[Entry]:
        """Take the URLs to be asked for next: as many as may be in flight and no page too many."""
        claimed: list[Entry] = []
        most = self._most_in_flight()
        while self.in_flight < most:
            url = self._schedule.pick(now)
            if url is None:
                break
            entry = self._entries[url]
            entry.state, entry.not_before = "claimed", None
            entry.attempts += 1
            self.in_flight += 1
            self._changed[url] = entry
            claimed.append(entry)
        return claimed

    def learned(self, host: str, crawl_delay_s: float | None, now: float) -> None:
        """Take note of what a host's robots.txt asks for."""
        self._schedule.learned(host, crawl_delay_s, now=now)

    def ended(self, entry: Entry, fetched: Fetched, now: float, *, asked: bool = True) -> None:
        """Take note of what came of a claimed URL: it is done, or queued for another try.

        Args:
            asked: whether its host got a request for it.
        """
        self.in_flight -= 1
        self._changed[entry.url] = entry
        pause_s = backoff_s(entry.attempts)
        if fetched.reason in PASSING:
            held_s = host_pause_s(fetched.reason, fetched.status, fetched.retry_after_s)
            if held_s is not None:
                pause_s = max(held_s, 0.0 if fetched.retry_after_s is not None else pause_s)
                self._schedule.hold(entry.host, now + pause_s, now=now)
        self._schedule.ended(entry.host, now=now, asked=asked)
        entry.status, entry.reason = fetched.status, fetched.reason
        if fetched.reason in PASSING and entry.attempts <= self._config.retries:
            entry.state, entry.not_before = "queued", now + pause_s
            self._push(entry, now)
            return
        entry.state, entry.fetched_at = "done", now
        entry.media_type = fetched.headers.get("content-type")

    def add_page(self, entry: Entry, content_hash: str) -> None:
        """Count an ended URL as a page; its first twin with the same bytes is noted."""
        self.pages += 1
        entry.content_hash = content_hash
        first = self._first_with.setdefault(content_hash, entry.url)
        entry.duplicate_of = first if first != entry.url else None

    def add_redirect(self, entry: Entry, target: str, now: float) -> Entry | None:
        """Queue the target of a redirect at the same depth, or say that it leads nowhere new."""
        entry.redirect_to = target
        if self._leads_back(entry) or entry.hops >= MOST_REDIRECTS:
            entry.reason = Reason.REDIRECT_LOOP
            return None
        found = Found(
            target, entry.depth, entry.found_order, entry.url, entry.score, entry.hops + 1
        )
        return self.offer(found, now)

    def refuse(self, entry: Entry, reason: Reason) -> None:
        """Give an ended URL another reason than its fetch."""
        entry.reason = reason
        self._changed[entry.url] = entry

    def take_changed(self) -> list[Entry]:
        """Return what has changed since the last call."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def next_at(self) -> float | None:
        """Return when a URL may be claimed without any ending first; None: never."""
        return self._schedule.next_at() if self.in_flight < self._most_in_flight() else None

    def _most_in_flight(self) -> int:
        return min(self._config.concurrency, self._config.max_pages - self.pages)

    def _admit(self, entry: Entry, now: float) -> None:
        refusal = self._refusal(entry)
        if refusal is not None:
            entry.state, entry.reason = "done", refusal
            return
        entry.state, entry.reason = "queued", None
        self._push(entry, now)

    def _refusal(self, entry: Entry) -> Reason | None:
        """Say why a URL is not asked for; seeds always are."""
        if entry.parent is None and entry.depth == 0:
            return None
        if not self._scope.holds(entry.url):
            return Reason.OUT_OF_SCOPE
        if self._config.max_depth is not None and entry.depth > self._config.max_depth:
            return Reason.TOO_DEEP
        return self._shapes.admit(entry.url)

    def _improve(self, entry: Entry, found: Found, now: float) -> Entry | None:
        """Take the shorter way, the better score and, depth first, the later page."""
        is_nearer = found.depth < entry.depth
        if is_nearer:
            entry.depth, entry.parent, entry.hops = found.depth, found.parent, found.hops
            self._changed[entry.url] = entry
        if entry.state == "done":
            if is_nearer and entry.reason in _ADMITTED:
                entry.found_order, entry.score = found.found_order, found.score
                self._admit(entry, now)
            was_read = entry.content_hash is not None or entry.redirect_to is not None
            return entry if is_nearer and was_read else None
        is_better = found.score > entry.score
        is_later = self._config.strategy == "depth_first" and (
            found.found_order // LINKS_PER_PAGE > entry.found_order // LINKS_PER_PAGE
        )
        if is_better:
            entry.score = found.score
        if is_later:
            entry.found_order = found.found_order
        if entry.state == "queued" and (is_nearer or is_better or is_later):
            self._changed[entry.url] = entry
            self._push(entry, now)
        return None

    def _push(self, entry: Entry, now: float) -> None:
        rank = rank_of(self._config.strategy, entry)
        not_before = entry.not_before or 0.0
        self._schedule.push(entry.host, entry.url, rank, now=now, not_before=not_before)

    def _is_current(self, url: str, rank: Rank, now: float) -> bool:
        entry = self._entries[url]
        waits = entry.state == "queued" and (entry.not_before or 0.0) <= now
        return waits and rank_of(self._config.strategy, entry) == rank

    def _leads_back(self, entry: Entry) -> bool:
        """Tell whether the redirects that are known from an entry's target end at the entry."""
        at: str | None = entry.redirect_to
        for _ in range(MOST_REDIRECTS + 1):
            if at == entry.url:
                return True
            known = self._entries.get(at) if at else None
            at = known.redirect_to if known else None
        return False
