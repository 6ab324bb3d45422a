"""Alerts about budgets: who looks for them, when, and what they say.

SQL raises them (`migrations/*_alerts.sql`), in the transaction that moves the money. A process that
makes calls looks every few seconds whether there is one to deliver.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Set
from decimal import Decimal
from html import escape
from typing import Any

from .. import outbox
from ..database import Database, pool
from ..errors import ConfigurationError, DatabaseError
from ..outbox import Channel, Delivery, Message
from ..telemetry import event
from .models import Limit
from .process import ledger_for

STANDARD = (Decimal("0.5"), Decimal("0.8"), Decimal(1))
"""Parts of a limit at which there is always an alert."""
LOOK_EVERY_S = 5.0

Rule = tuple[str, str, str, str, Decimal]
"""Project, scope, scope id, window and threshold."""


class AlertLoop:
    """Looks for alerts on behalf of all trackers of one process and database.

    While calls are made it looks once per `every_s`, however many there are, and after that until
    nothing waits in the outbox.

    Args:
        every_s: seconds.
    """

    def __init__(self, every_s: float = LOOK_EVERY_S) -> None:
        self._every_s = every_s
        self._guard = threading.Lock()
        self._nudges: dict[str, int] = {}
        self._rules: set[Rule] = set()
        self._registered: set[Rule] = set()
        self._next_look = 0.0
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def watch(self, project: str, limits: Iterable[Limit], threshold: Decimal) -> None:
        """Want alerts at a threshold of some limits; the next look registers what is new."""
        if threshold in STANDARD:
            return
        for limit in limits:
            rule = (project, limit.scope, limit.scope_id, limit.window, threshold)
            if rule not in self._registered:
                with self._guard:
                    self._rules.add(rule)

    def nudge(self, db: Database, project: str) -> None:
        """Say that a call of a project is under way or done; a background task looks soon."""
        with self._guard:
            self._nudges[project] = self._nudges.get(project, 0) + 1
        self._start(db)

    def _start(self, db: Database) -> None:
        loop = asyncio.get_running_loop()
        task = self._tasks.get(loop)
        if task is None or task.done():
            self._tasks[loop] = loop.create_task(self._run(db, loop))

    async def look(self, db: Database) -> None:
        """Deliver what is due of the projects that this process called for since the last look.

        What fails is logged and stays in the outbox, for the next look of any process.
        """
        await self._look_for(db, self._nudged())

    async def close(self, db: Database) -> None:
        """Look a last time; what is left is for the next process."""
        await self.look(db)
        with self._guard:
            self._nudges.clear()

    def _nudged(self) -> dict[str, int]:
        with self._guard:
            return dict(self._nudges)

    async def _look_for(self, db: Database, nudges: Mapping[str, int]) -> None:
        """Deliver; whoever nudged meanwhile, or has something waiting, is looked for again."""
        if not nudges:
            return
        if not await self._is_done(db, nudges.keys()):
            self._start(db)
            return
        with self._guard:
            for project, count in nudges.items():
                if self._nudges.get(project) == count:
                    del self._nudges[project]

    async def _is_done(self, db: Database, projects: Set[str]) -> bool:
        """Deliver, and tell whether nothing is left to look for."""
        try:
            await self._register(db)
            return not (await deliver_alerts(db, projects)).waiting
        except ConfigurationError as error:
            event("alert.webhook_refused", level=logging.ERROR, error=type(error).__name__)
            return True
        except DatabaseError as error:
            event("alert.look_failed", level=logging.WARNING, error=type(error).__name__)
            return False

    async def _register(self, db: Database) -> None:
        with self._guard:
            rules = sorted(self._rules)
        if not rules:
            return
        await db.call("llm_watch_budgets", {"rules": [_rule_payload(rule) for rule in rules]})
        with self._guard:
            self._registered.update(rules)
            self._rules.difference_update(rules)

    async def _run(self, db: Database, loop: asyncio.AbstractEventLoop) -> None:
        """Look until there is nothing to look for; at the end of the event loop, once more."""
        try:
            while self._nudges:
                await asyncio.sleep(self._wait_s(time.monotonic()))
                await self._flush_and_look(db)
        except asyncio.CancelledError:
            await self._flush_and_look(db)
            # The ledger, at the end of the same loop, may have closed its connections before.
            await pool.close()
            raise
        finally:
            del self._tasks[loop]

    def _wait_s(self, now: float) -> float:
        """Return how long to wait for one's turn; event loops of one process take turns."""
        with self._guard:
            look_at = max(now + self._every_s, self._next_look)
            self._next_look = look_at + self._every_s
        return look_at - now

    async def _flush_and_look(self, db: Database) -> None:
        """Look once the database knows what was settled: only then are its alerts there."""
        # Of before the flush: what is settled during it may be left to the next one.
        nudges = self._nudged()
        try:
            await ledger_for(db).flush(db)
        except DatabaseError as error:
            event("alert.look_failed", level=logging.WARNING, error=type(error).__name__)
        else:
            await self._look_for(db, nudges)


async def deliver_alerts(db: Database, projects: Collection[str]) -> Delivery:
    """Deliver the pending alerts of some projects.

    They go to the webhook of the setting `alert_webhook`, or without one to the log.

    Raises:
        ConfigurationError: the webhook is neither https nor on this machine; nothing is lost.
        DatabaseError: some may not be marked as delivered and come again.
    """
    url = outbox.webhook_url()
    channel = outbox.webhook(url, alert_json) if url else Channel("log", _log)
    return await outbox.deliver(db, projects, channel)


def alert_json(message: Message) -> dict[str, Any]:
    """Return what a webhook receives: Slack's ``text``, and the facts as fields. Pure."""
    fields = {"id": message.id, "project": message.project, **message.body}
    # Slack reads <…> as a link or a mention.
    return {"text": escape(alert_text(message.project, message.body), quote=False), **fields}


def alert_text(project: str, alert: Mapping[str, Any]) -> str:
    """Say an alert in a sentence; one that is not about a budget brings its own. Pure."""
    if "text" in alert:
        return str(alert["text"])
    limit, spent = f"${alert['limit_usd']}", f"${alert['spent_usd']}"
    budget = f"the {alert['window']} budget of {_whose(project, alert)}"
    since = "" if alert["window"] == "total" else f" since {alert['window_start']}"
    if alert["kind"] == "refused":
        return f"A call was refused: it did not fit {budget}, {limit}; {spent} is spent{since}."
    if Decimal(alert["threshold"]) == 1:
        return f"Used up: {budget}, {limit}; {spent} is spent{since}."
    percent = (Decimal(alert["threshold"]) * 100).normalize()
    return f"{percent:f} % reached: {budget}, {limit}; {spent} is spent{since}."


def _whose(project: str, alert: Mapping[str, Any]) -> str:
    if alert["scope"] == "project":
        return f"project {alert['scope_id']}"
    return f"{alert['scope']} {alert['scope_id']} in project {project}"


async def _log(message: Message) -> None:
    names = ("kind", "scope", "scope_id", "window", "window_start", "threshold", "flag", "share")
    ids = {name: message.body[name] for name in names if name in message.body}
    event(f"{message.topic}.alert", level=logging.WARNING, project=message.project, **ids)


def _rule_payload(rule: Rule) -> dict[str, str]:
    project, scope, scope_id, window, threshold = rule
    return {
        "project": project,
        "scope": scope,
        "scope_id": scope_id,
        "window": window,
        "threshold": str(threshold),
    }


_loops: dict[str, AlertLoop] = {}
_guard = threading.Lock()


def alerts_for(db: Database) -> AlertLoop:
    """Return the loop that this process keeps for a database."""
    with _guard:
        return _loops.setdefault(db.identity, AlertLoop())


def _forget_all() -> None:
    """A forked child is a new instance."""
    global _guard  # noqa: PLW0603 - another thread may have held it in the parent
    _guard = threading.Lock()
    _loops.clear()


os.register_at_fork(after_in_child=_forget_all)
