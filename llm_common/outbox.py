"""Messages that survive a crash: rows of `llm_outbox`, delivered at least once.

SQL raises a message in the transaction that it tells of. Whoever delivers claims one at a time by a
lease, so that several processes never deliver the same message, unless one died between sending it
and saying so; then its `id` tells the receiver.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from . import settings
from .database import Database
from .errors import ConfigurationError
from .telemetry import event

SEND_TIMEOUT_S = 10.0
LEASE_S = 60.0
"""How long a claim holds; far more than sending and saying so can take."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to deliver.

    Attributes:
        id: the same at every attempt.
        attempt: counts from 1.
    """

    id: str
    project: str
    topic: str
    body: Mapping[str, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Channel:
    """Where messages go.

    Attributes:
        name: what the row says of it, such as ``webhook``; never an address.
        send: returns None when the receiver has the message, else in a word what went wrong.
    """

    name: str
    send: Callable[[Message], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of a delivery.

    Attributes:
        arrived: messages that were taken.
        waiting: some are still pending: due later, or with another process.
    """

    arrived: int
    waiting: bool


async def deliver(db: Database, projects: Collection[str], channel: Channel) -> Delivery:
    """Deliver what is due of some projects, the oldest first.

    A failure ends it: what is behind would most likely fail too and stays due. The failed one is
    tried again after 30 s, then after twice as long each time, up to an hour; the tenth failure,
    about three hours after the first, is the last, and the row stays as ``failed``.

    Raises:
        DatabaseError: a message may have arrived without being marked; it comes again.
    """
    claim = {"projects": sorted(projects), "lease_s": LEASE_S}
    arrived = 0
    while True:
        claim_id = str(uuid4())
        answer = await db.call("llm_outbox_claim", {**claim, "claim_id": claim_id})
        if answer["message"] is None:
            return Delivery(arrived, waiting=answer["waiting"])
        message = Message(**answer["message"])
        error = await channel.send(message)
        done = {"id": message.id, "claim_id": claim_id, "channel": channel.name, "error": error}
        state = (await db.call("llm_outbox_done", done))["state"]
        if error:
            level = logging.ERROR if state == "failed" else logging.WARNING
            event("outbox.undelivered", level=level, id=message.id, error=error, state=state)
            return Delivery(arrived, waiting=answer["waiting"] or state == "pending")
        arrived += 1


def webhook(url: str, write: Callable[[Message], Mapping[str, Any]]) -> Channel:
    """Return a channel that POSTs JSON, and takes any 2xx for "received".

    Redirects are not followed; the deadline is 10 s.

    Args:
        write: makes the JSON body of a message.

    Raises:
        ConfigurationError: the address is neither https nor on this machine.
    """
    _check(url)

    async def send(message: Message) -> str | None:
        # Not httpx, which logs whole addresses: a webhook's is a secret.
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, json=write(message), allow_redirects=False) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return type(error).__name__
        return None if 200 <= status < 300 else f"HTTP {status}"

    return Channel("webhook", send)


def webhook_url() -> str | None:
    """Return the address in the setting `alert_webhook`, or None when there is none.

    Raises:
        ConfigurationError: it is neither https nor on this machine.
    """
    url = settings.setting("alert_webhook").value
    if url:
        _check(url)
    return url or None


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = None, None
    if parts is None or not host:
        problem = "is no address"
    elif parts.scheme != "https" and not (parts.scheme == "http" and _is_here(host)):
        problem = "must begin with https://"
    else:
        return
    # `from None` and no value: the address is a secret.
    raise ConfigurationError(f"the setting alert_webhook {problem}") from None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
