"""A real Postgres that stops and comes back under requests: not one of them fails."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from llm_common import Rollout
from llm_common.database.migrations import up
from llm_common.rollout import keeper
from llm_common.rollout.commands import change, wanted
from tests import children, servers
from tests.rollout.conftest import new, old
from tests.servers import Cluster, fetch
from tests.support import skip_or_fail

FLAG = "through-an-outage"


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server of this test's own, which it may stop."""
    programs = servers.installed_programs(15)
    if programs is None:
        skip_or_fail("PostgreSQL 15 is not installed")
    with servers.cluster(programs) as running:
        yield running


async def test_postgres_stops_and_comes_back(own, caplog, monkeypatch):
    monkeypatch.setattr(keeper, "LEAST_STALE_S", 2.0)
    caplog.set_level(logging.INFO, "llm_common")
    await up(own.url)
    served: list[str] = []

    def said(name: str) -> int:
        """Count the events of this flag by name."""
        events = [getattr(record, "event", {}) for record in caplog.records]
        return sum(e.get("event") == name and e["flag"] == FLAG for e in events)

    async def requests(rollout: Rollout) -> None:
        for number in range(1_000_000):
            served.append(await rollout.run(f"unit-{number}", old=old, new=new))
            await asyncio.sleep(0.005)

    async with Rollout(FLAG, own.url) as rollout:
        assert rollout.db is not None
        await change(rollout.db, "test", FLAG, "set", reason="a test", to=wanted("on"))
        loading = asyncio.create_task(requests(rollout))
        await children.until(lambda: served[-1:] == ["new"])
        await asyncio.to_thread(own.stop)
        # The state gets old a little before or after the poll that finds the server gone.
        await children.until(lambda: served[-1:] == ["old"] and said("rollout.state_unread") > 0)
        await asyncio.to_thread(own.start)
        await children.until(lambda: served[-1:] == ["new"])
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    assert (said("rollout.state_unread"), said("rollout.state_read_again")) == (1, 1)
    outcomes = fetch(own.url, "SELECT arm, status FROM llm_rollout_outcomes WHERE status = 'ok'")
    assert Counter(arm for arm, _ in outcomes) == Counter(served)
