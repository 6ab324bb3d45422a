"""The frontier alone: order, limits, waits; time is a number here."""

from __future__ import annotations

import pytest

from llm_common.crawling.config import CrawlConfig
from llm_common.crawling.frontier import Entry, Found, Frontier
from llm_common.crawling.models import Fetched, Reason
from llm_common.crawling.politeness import (
    LONGEST_CRAWL_DELAY_S,
    LONGEST_WAIT_S,
    backoff_s,
    host_pause_s,
)
from llm_common.crawling.scope import scope_of

A, B = "http://a.example", "http://b.example"


def frontier(**config) -> Frontier:
    """A frontier of two hosts that wait for nothing, one request at a time, unless told so."""
    told = {"per_host_delay_s": 0, "concurrency": 1, "hosts": ("b.example",), **config}
    settings = CrawlConfig.model_validate(told)
    made = Frontier(settings, scope_of([A], settings))
    made.offer(Found(f"{A}/", 0, 0), 0)
    return made


def answer(entry: Entry, reason: Reason = Reason.FETCHED, **more) -> Fetched:
    return Fetched(entry.url, entry.url, reason, **more)


def visit(made: Frontier, links: dict[str, list[str]], now: float = 0) -> list[str]:
    """Visit everything, one after the other; return the paths in their order."""
    order = []
    while claimed := made.claim(now):
        for entry in claimed:
            path = entry.url.removeprefix(A)
            order.append(path)
            made.learned(entry.host, None, now)
            made.ended(entry, answer(entry), now)
            made.add_page(entry, path)
            first = made.next_expansion()
            for index, link in enumerate(links.get(path, [])):
                made.offer(Found(A + link, entry.depth + 1, first + index, entry.url), now)
    return order


GRAPH = {
    "/": ["/1", "/2", "/3"],
    "/1": ["/11", "/12", "/"],
    "/2": ["/21", "/3"],
    "/11": ["/111", "/2"],
    "/111": ["/3"],
}


def test_breadth_first_goes_by_level() -> None:
    order = ["/", "/1", "/2", "/3", "/11", "/12", "/21", "/111"]
    assert visit(frontier(strategy="breadth_first"), GRAPH) == order


def test_depth_first_is_what_recursion_would_do() -> None:
    def recursion(path: str, seen: list[str]) -> list[str]:
        if path not in seen:
            seen.append(path)
            for link in GRAPH.get(path, []):
                recursion(link, seen)
        return seen

    assert visit(frontier(strategy="depth_first"), GRAPH) == recursion("/", [])


def test_best_first_takes_the_best_that_is_known() -> None:
    made = frontier(strategy="best_first", keywords=("x",))
    for index, (path, score) in enumerate({"/low": 0.1, "/high": 0.9, "/mid": 0.5}.items()):
        made.offer(Found(A + path, 1, index, f"{A}/", score), 0)
    # Another link to it says more.
    made.offer(Found(f"{A}/low", 1, 9, f"{A}/", 0.7), 0)
    assert visit(made, {}) == ["/high", "/low", "/mid", "/"]


@pytest.mark.parametrize("most", [1, 2, 5, 8])
@pytest.mark.parametrize("concurrency", [1, 3, 20])
def test_no_page_too_many_is_ever_claimed(most: int, concurrency: int) -> None:
    made = frontier(max_pages=most, concurrency=concurrency, per_host_concurrency=concurrency)
    assert len(visit(made, GRAPH)) == made.pages == most


def test_a_failure_makes_room_for_another_page() -> None:
    made = frontier(max_pages=1, retries=0)
    made.offer(Found(f"{A}/1", 1, 1, f"{A}/"), 0)
    (entry,) = made.claim(0)
    assert made.claim(0) == []
    made.ended(entry, answer(entry, Reason.NOT_FOUND, status=404), 0)
    assert [e.url for e in made.claim(0)] == [f"{A}/1"]


def test_a_shorter_way_opens_what_was_too_deep() -> None:
    made = frontier(max_depth=2)
    made.offer(Found(f"{A}/far", 3, 5, f"{A}/x"), 0)
    assert made[f"{A}/far"].reason is Reason.TOO_DEEP
    made.offer(Found(f"{A}/far", 2, 9, f"{A}/y"), 0)
    assert (made[f"{A}/far"].state, made[f"{A}/far"].parent) == ("queued", f"{A}/y")


def test_a_shorter_way_to_a_page_that_was_read_is_told() -> None:
    made = frontier()
    visit(made, {"/": ["/1"], "/1": ["/2"]})
    assert made.offer(Found(f"{A}/2", 1, 9, f"{A}/"), 0) is made[f"{A}/2"]
    assert made.offer(Found(f"{A}/2", 1, 9, f"{A}/"), 0) is None


def test_a_host_is_left_alone_between_requests() -> None:
    made = frontier(per_host_delay_s=2, concurrency=5, per_host_concurrency=5)
    for n in range(3):
        made.offer(Found(f"{A}/{n}", 1, n, f"{A}/"), 0)
    assert len(made.claim(100)) == 1
    made.learned("a.example", None, 100.5)
    assert (made.claim(102.4), made.next_at()) == ([], 102.5)
    assert len(made.claim(102.5)) == 1
    assert made.next_at() == 104.5


@pytest.mark.parametrize(("asked_s", "kept_s"), [(0.5, 1), (5, 5), (10**6, LONGEST_CRAWL_DELAY_S)])
def test_the_longer_of_two_delays_counts_up_to_a_bound(asked_s: float, kept_s: float) -> None:
    made = frontier(per_host_delay_s=1, concurrency=5)
    made.offer(Found(f"{A}/1", 1, 1, f"{A}/"), 0)
    made.claim(0)
    made.learned("a.example", asked_s, 0)
    assert made.claim(kept_s - 0.01) == []
    assert len(made.claim(kept_s)) == 1


def test_a_host_that_waits_keeps_no_other_waiting() -> None:
    made = frontier(per_host_delay_s=1000, concurrency=4)
    for n in range(3):
        made.offer(Found(f"{A}/{n}", 1, n, f"{A}/"), 0)
        made.offer(Found(f"{B}/{n}", 1, 10 + n, f"{A}/"), 0)
    assert [e.host for e in made.claim(0)] == ["a.example", "b.example"]


def test_what_robots_refuse_costs_no_wait() -> None:
    made = frontier(per_host_delay_s=10)
    made.offer(Found(f"{A}/1", 1, 1, f"{A}/"), 0)
    (entry,) = made.claim(0)
    made.learned("a.example", None, 0)
    made.ended(entry, answer(entry, Reason.ROBOTS_DISALLOWED), 0, asked=False)
    assert len(made.claim(0)) == 1


def test_retry_after_holds_the_whole_host() -> None:
    made = frontier(concurrency=2)
    for url in (f"{A}/1", f"{B}/1"):
        made.offer(Found(url, 1, 1, f"{A}/"), 0)
    first = made.claim(0)[0]
    made.learned("a.example", None, 0)
    limited = answer(first, Reason.RATE_LIMITED, status=429, retry_after_s=30)
    made.ended(first, limited, 0)
    assert {e.host for e in made.claim(29)} <= {"b.example"}
    assert made.next_at() == 30
    assert [e.host for e in made.claim(30)] == ["a.example"]


def test_a_failure_of_one_url_holds_that_url_alone() -> None:
    made = frontier()
    made.offer(Found(f"{A}/1", 1, 1, f"{A}/"), 0)
    (entry,) = made.claim(0)
    made.learned("a.example", None, 0)
    made.ended(entry, answer(entry, Reason.TIMEOUT), 0)
    assert [e.url for e in made.claim(0)] == [f"{A}/1"]
    assert entry.state == "queued"
    assert entry.not_before
    assert 0.5 <= entry.not_before <= 1


def test_tries_come_to_an_end() -> None:
    made = frontier(retries=2)
    now = 0.0
    for attempt in range(1, 4):
        (entry,) = made.claim(now)
        assert entry.attempts == attempt
        made.ended(entry, answer(entry, Reason.SERVER_ERROR, status=500), now)
        now += 1000
    assert (entry.state, entry.reason) == ("done", Reason.SERVER_ERROR)
    assert made.claim(now) == []


def test_what_is_alike_is_bounded() -> None:
    made = frontier(max_alike=3)
    for n in range(5):
        made.offer(Found(f"{A}/?page={n}", 1, n, f"{A}/"), 0)
    reasons = [made[f"{A}/?page={n}"].reason for n in range(5)]
    assert reasons == [None, None, None, Reason.OVER_LIMIT, Reason.OVER_LIMIT]


def test_redirects_end() -> None:
    made = frontier()
    (start,) = made.claim(0)
    made.ended(start, answer(start, Reason.REDIRECTED, redirect_to=f"{A}/b"), 0)
    made.add_redirect(start, f"{A}/b", 0)
    (back,) = made.claim(0)
    assert (back.depth, back.hops) == (0, 1)
    made.ended(back, answer(back, Reason.REDIRECTED), 0)
    made.add_redirect(back, f"{A}/", 0)
    assert (start.reason, back.reason) == (Reason.REDIRECTED, Reason.REDIRECT_LOOP)
    assert made.claim(0) == []


def test_a_restored_frontier_goes_on() -> None:
    made = frontier(max_pages=5)
    visit(made, GRAPH)
    again = frontier(max_pages=6)
    again.restore(made.take_changed(), 0)
    assert again.pages == 5
    assert len(visit(again, {})) == 1


def test_a_restored_host_is_still_left_alone() -> None:
    made = frontier()
    entry = Entry(f"{A}/later", "a.example", 1, 7, f"{A}/", not_before=50.0)
    made.restore([entry], 10)
    assert made.claim(49) == []
    assert len(made.claim(50)) == 1


def test_waits_double_and_have_bounds() -> None:
    assert [backoff_s(n, lambda: 1.0) for n in (1, 2, 3, 20)] == [1, 2, 4, 60]
    assert backoff_s(3, lambda: 0.0) == 2
    assert host_pause_s(Reason.SERVER_ERROR, 503, 10**9) == LONGEST_WAIT_S
    assert host_pause_s(Reason.SERVER_ERROR, 503, None) == 0
    assert host_pause_s(Reason.SERVER_ERROR, 500, None) is None
