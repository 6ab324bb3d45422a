"""The plan's figures at one second per call and 2 % faults, reached by the new code alone."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_common.testing import Fault, ProviderServer
from llm_common.testing.records import RecordedRequest
from tests.examples import bills, chats
from tests.examples.deployment import EXAMPLES, Deployment, deployed, without_old_code
from tests.examples.load import TIMEOUT_S, Load, Seen
from tests.servers import execute, fetch

pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]

LATENCY_S = 1.0
ONE_IN = 50
"""2 % of the requests meet a fault."""
KINDS = (
    Fault.status(500),
    Fault.rate_limit(0.5),
    Fault.disconnect(),
    Fault.empty(),
    Fault.status(503),
)
SEARCHES = 500
MESSAGES = 400
"""Of each user, before the chat begins."""


@pytest.fixture
async def provider() -> AsyncIterator[ProviderServer]:
    """A provider that takes its time, and fails one request in fifty."""
    async with ProviderServer(bills.corpus(), latency_s=LATENCY_S) as running:
        faults = itertools.islice(itertools.cycle(KINDS), 100)
        running.script(*faults, match=is_unlucky)
        yield running


def is_unlucky(request: RecordedRequest) -> bool:
    return int(request.id.removeprefix("req-")) % ONE_IN == 0


@dataclass(frozen=True)
class Figure:
    """A promise of the plan, and what came of it."""

    what: str
    promised: str
    reached: str
    is_kept: bool


def show(capsys: pytest.CaptureFixture[str], title: str, figures: Sequence[Figure]) -> None:
    """Print the table, whatever pytest captures, then hold every promise."""
    with capsys.disabled():
        print(f"\n{title}, at {LATENCY_S:g} s per call and {100 / ONE_IN:g} % faults")
        for figure in figures:
            print(f"  {figure.what:<34} {figure.promised:>8} {figure.reached:>12}")
    assert [figure.what for figure in figures if not figure.is_kept] == []


def p95(seconds: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1]


def latency(what: str, limit_s: float, seconds: Sequence[float]) -> Figure:
    """Hold a latency to its limit."""
    reached = p95(seconds)
    return Figure(what, f"< {limit_s:g} s", f"{reached:.3f} s", reached < limit_s)


def errors(seen: Sequence[Seen]) -> Figure:
    """Hold the errors that users saw to 1 %."""
    share = sum(bool(one.problem) for one in seen) / len(seen)
    return Figure("errors seen by users", "< 1 %", f"{share:.2%} of {len(seen)}", share < 0.01)


async def get(host: Deployment, path: str, headers: Mapping[str, str]) -> httpx.Response:
    """Get something from a host."""
    async with host.address() as url, httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        answer = await client.get(url + path, headers=dict(headers))
    return answer.raise_for_status()


async def cache_of_all(host: Deployment) -> dict[str, Any]:
    """Return the figures of the search cache; each process writes down its own when it is asked."""
    asked: set[str] = set()
    while asked != host.workers:
        answer = await get(host, "/costs", {})
        asked.add(answer.headers["x-served-by"])
    return (await get(host, "/costs", {})).json()["search_cache"]


async def test_affordabot_keeps_what_the_plan_promises(
    provider: ProviderServer,
    environment: Mapping[str, str],
    bills_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = without_old_code("affordabot", tmp_path)
    ids = bills.versions(bills.documents(), range(1, 7))
    async with deployed(folder, {**environment, "DATABASE_URL": bills_url}) as host:
        # The packages that a first call imports are nothing that users wait for in the long run.
        await Load(host, bills.analyses(ids[-8:])).all(at_once=8)
        answers = await Load(host, bills.analyses(ids[:50])).all(at_once=8)
        await Load(host, bills.searches(SEARCHES)).all(at_once=8)
        cache = await cache_of_all(host)
    hit_rate, total = cache["hit_rate"], cache["total_searches"]
    figures = [
        latency("50 bills in one run, P95", 10, [one.seconds for one in answers]),
        errors(answers),
        Figure("cache hits", ">= 80 %", f"{hit_rate:.1%} of {total}", hit_rate >= 0.8),
    ]
    show(capsys, "affordabot", figures)
    # An answer that broke off is charged at its bound, as nobody knows what it has cost.
    known = "sum(cost_usd) FILTER (WHERE cost_source <> 'estimated')"
    ((least, most),) = fetch(bills_url, f"SELECT {known}, sum(cost_usd) FROM cost_tracking")
    assert least <= provider.invoice.total_usd <= most


async def test_prime_radiant_keeps_what_the_plan_promises(
    provider: ProviderServer,
    environment: Mapping[str, str],
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = without_old_code("prime_radiant", tmp_path)
    users = chats.users(40)
    talked_before(database_url, users)
    async with deployed(folder, {**environment, "DATABASE_URL": database_url}) as host:
        await Load(host, chats.chats(users[:8])).all(at_once=8)
        answers = await Load(host, chats.chats([*users, *users, *users])).all(at_once=10)
        loads = [await timed_history(host, user) for user in users]
    figures = [
        latency("one answer, P95", 3, [one.seconds for one in answers]),
        latency("loading a conversation, P95", 0.5, loads),
        errors(answers),
    ]
    show(capsys, "prime_radiant", figures)


async def test_nobody_notices_which_half_is_served_by_the_new_code(
    provider: ProviderServer,
    environment: Mapping[str, str],
    bills_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = {**environment, "USE_NEW_LLM_FRAMEWORK_PERCENTAGE": "50", "DATABASE_URL": bills_url}
    ids = bills.versions(bills.documents(), range(1, 4))
    async with deployed(EXAMPLES / "affordabot", variables) as host:
        analysed = await Load(host, bills.analyses(ids[:32])).all(at_once=8)
    async with deployed(EXAMPLES / "prime_radiant", variables) as host:
        answered = await Load(host, chats.chats(chats.users(64))).all(at_once=8)
    assert {one.by for one in analysed} == {bills.OLD, bills.NEW}
    assert {one.by for one in answered} == {chats.OLD, chats.NEW}
    figures = [
        *both("a bill, P95", analysed, (bills.OLD, bills.NEW)),
        *both("an answer, P95", answered, (chats.OLD, chats.NEW)),
        errors([*analysed, *answered]),
    ]
    show(capsys, "half of the units each", figures)
    assert not any(one.problem for one in (*analysed, *answered))


def both(what: str, seen: Sequence[Seen], codes: Sequence[str]) -> list[Figure]:
    """Show how long the two codes take; nothing is promised for a process that has just begun."""
    return [
        Figure(f"{what}, {by}", "", f"{p95([o.seconds for o in seen if o.by == by]):.3f} s", True)
        for by in codes
    ]


async def timed_history(host: Deployment, user_id: str) -> float:
    """Return the seconds until a user sees what was said."""
    started = time.monotonic()
    answer = await get(host, "/chat/history", chats.authorization(user_id))
    assert len(answer.json()) == 20
    return time.monotonic() - started


def talked_before(url: str, users: Sequence[str]) -> None:
    """Give each user a long conversation."""
    execute(
        url,
        "INSERT INTO conversations (user_id, role, content, project)"
        " SELECT u::uuid, CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant' END,"
        " 'What was said about bonds, number ' || n || '.', 'prime-radiant-ai'"
        f" FROM unnest('{{{','.join(users)}}}'::text[]) AS u, generate_series(1, {MESSAGES}) AS n"
        " ORDER BY u, n",
    )
