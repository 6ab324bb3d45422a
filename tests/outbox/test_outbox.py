"""Messages arrive, once where nobody dies, and are kept where they can't arrive."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from llm_common import outbox
from llm_common.database import Database
from llm_common.errors import ConfigurationError
from llm_common.outbox import Channel, Delivery, Message
from tests import children
from tests.receiver import SECRET, Receiver, receiving
from tests.servers import execute, fetch


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


def raise_messages(url: str, count: int, project: str = "p") -> None:
    execute(
        url,
        "INSERT INTO llm_outbox (project, topic, key, body)"
        f" SELECT '{project}', 'test', n::text, jsonb_build_object('n', n)"
        f" FROM generate_series(1, {count}) n",
    )


def rows(url: str) -> list[tuple[object, ...]]:
    return fetch(url, "SELECT state, attempts, channel, last_error FROM llm_outbox ORDER BY key")


def hook(receiver: Receiver) -> Channel:
    return outbox.webhook(receiver.url, lambda m: {"id": m.id, "attempt": m.attempt, **m.body})


async def test_messages_arrive_in_order_and_only_of_the_projects_asked(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 3)
    raise_messages(database_url, 1, "other")
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 3
    assert [body["n"] for body in receiver.bodies] == [1, 2, 3]
    assert sorted(rows(database_url), key=str) == [
        *[("delivered", 1, "webhook", None)] * 3,
        ("pending", 0, None, None),
    ]
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0


async def test_many_at_once_deliver_each_message_once(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 20)
    receiver.pause_s = 0.01
    channel = hook(receiver)
    arrived = await asyncio.gather(*(outbox.deliver(db, ["p"], channel) for _ in range(8)))
    assert sum(one.arrived for one in arrived) == 20
    assert len(receiver.ids) == len(set(receiver.ids)) == 20


async def test_a_failure_waits_twice_as_long_each_time_and_ends_after_three_hours(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 1)
    now, waits = "SELECT clock_timestamp()", [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    for wait in [*waits, None]:
        receiver.answers.append(500)
        ((before,),) = fetch(database_url, now)
        assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0
        ((after,),) = fetch(database_url, now)
        # It is not due before its time.
        assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0
        ((due,),) = fetch(database_url, "SELECT due_at FROM llm_outbox")
        assert wait is None or before <= due - timedelta(seconds=wait) <= after
        execute(database_url, "UPDATE llm_outbox SET due_at = clock_timestamp()")
    assert 3.0 < sum(waits) / 3600 < 3.1
    assert [body["attempt"] for body in receiver.bodies] == list(range(1, 11))
    assert len(set(receiver.ids)) == 1
    assert rows(database_url) == [("failed", 10, "webhook", "HTTP 500")]


async def test_what_failed_is_delivered_when_the_receiver_is_back(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 2)
    receiver.answers.append(503)
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0
    # The one behind was not tried, and nothing keeps it from going now.
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 1
    execute(database_url, "UPDATE llm_outbox SET due_at = clock_timestamp()")
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 1
    assert [body["n"] for body in receiver.bodies] == [1, 2, 1]
    assert {row[0] for row in rows(database_url)} == {"delivered"}


async def test_whether_something_waits(db: Database, database_url: str, receiver: Receiver) -> None:
    raise_messages(database_url, 2)
    assert not (await outbox.deliver(db, ["other"], hook(receiver))).waiting
    receiver.answers.append(500)
    # One has just failed; then it is the only one left, and not due.
    for arrived in (0, 1, 0):
        assert await outbox.deliver(db, ["p"], hook(receiver)) == Delivery(arrived, waiting=True)
    execute(database_url, "UPDATE llm_outbox SET due_at = clock_timestamp(), attempts = 9")
    receiver.answers.append(500)
    assert await outbox.deliver(db, ["p"], hook(receiver)) == Delivery(0, waiting=False)


async def test_a_dead_claimants_message_comes_again_once_its_lease_is_over(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 1)
    claim = {"claim_id": str(uuid4()), "projects": ["p"], "lease_s": 60}
    first = (await db.call("llm_outbox_claim", claim))["message"]
    assert (await db.call("llm_outbox_claim", claim))["message"] == first, "an answer was lost"
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0
    execute(database_url, "UPDATE llm_outbox SET claimed_until = clock_timestamp()")
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 1
    assert (receiver.ids, receiver.bodies[0]["attempt"]) == ([first["id"]], 2)


async def test_who_lost_the_claim_changes_nothing(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 1)
    claim = {"claim_id": str(uuid4()), "projects": ["p"], "lease_s": 0}
    slow = (await db.call("llm_outbox_claim", claim))["message"]
    done = {"id": slow["id"], "claim_id": claim["claim_id"], "channel": "slow", "error": "Slow"}
    other = {**claim, "claim_id": str(uuid4()), "lease_s": 60}
    await db.call("llm_outbox_claim", other)
    assert await db.call("llm_outbox_done", done) == {"state": "pending"}
    assert rows(database_url) == [("pending", 2, None, None)]
    won = {**done, "claim_id": other["claim_id"], "channel": "webhook", "error": None}
    for late in (won, won, done):
        assert await db.call("llm_outbox_done", late) == {"state": "delivered"}
    assert rows(database_url) == [("delivered", 2, "webhook", None)]


async def test_cancelled_in_mid_delivery_it_comes_again_with_the_same_id(
    db: Database, database_url: str, receiver: Receiver
) -> None:
    raise_messages(database_url, 1)
    receiver.pause_s = 60
    task = asyncio.create_task(outbox.deliver(db, ["p"], hook(receiver)))
    await children.until(lambda: bool(receiver.ids))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    receiver.pause_s = 0
    execute(database_url, "UPDATE llm_outbox SET claimed_until = clock_timestamp()")
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 1
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 404])
async def test_a_redirect_is_a_failure(
    db: Database, database_url: str, receiver: Receiver, status: int
) -> None:
    raise_messages(database_url, 1)
    receiver.answers.append(status)
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 0
    assert len(receiver.bodies) == 1
    assert rows(database_url) == [("pending", 1, "webhook", f"HTTP {status}")]


async def test_nobody_there_is_a_failure_without_the_address(
    db: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raise_messages(database_url, 1)
    channel = outbox.webhook(f"http://127.0.0.1:1/{SECRET}", lambda m: {"id": m.id})
    assert (await outbox.deliver(db, ["p"], channel)).arrived == 0
    [(_, _, _, error)] = rows(database_url)
    assert error == "ClientConnectorError"
    assert "outbox.undelivered" in caplog.text
    assert SECRET not in caplog.text


async def test_the_address_is_in_no_log_when_all_goes_well(
    db: Database, database_url: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    raise_messages(database_url, 1)
    assert (await outbox.deliver(db, ["p"], hook(receiver))).arrived == 1
    assert SECRET not in caplog.text
    assert SECRET not in str(fetch(database_url, "SELECT * FROM llm_outbox"))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/x",
        "http://127.0.0.1.example.com/x",
        "ftp://127.0.0.1/x",
        "https://",
        "https://[::1/x",
        "not-an-address",
    ],
)
def test_an_address_that_is_refused_is_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", url)
    for refused in (outbox.webhook_url, lambda: outbox.webhook(url, lambda m: m.body)):
        with pytest.raises(ConfigurationError, match="the setting alert_webhook") as caught:
            refused()
        assert url not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example.com/x", "http://localhost:8/x", "http://[::1]:8/x", "http://127.9.9.9"],
)
def test_an_address_that_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_COMMON_ALERT_WEBHOOK", url)
    assert outbox.webhook_url() == url


def test_no_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_COMMON_ALERT_WEBHOOK", raising=False)
    assert outbox.webhook_url() is None


async def test_a_message_is_what_its_channel_gets(db: Database, database_url: str) -> None:
    raise_messages(database_url, 1)
    got: list[Message] = []

    async def keep(message: Message) -> None:
        got.append(message)

    assert (await outbox.deliver(db, ["p"], Channel("list", keep))).arrived == 1
    [message] = got
    assert (message.project, message.topic, message.attempt) == ("p", "test", 1)
    assert message.body == {"n": 1}
    assert rows(database_url) == [("delivered", 1, "list", None)]
