"""The state of one rollout in this process: loaded, polled, and given up when it gets old."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from pydantic import ValidationError

from .. import settings
from ..database import Database
from ..errors import ConfigurationError, DatabaseError
from ..telemetry import event
from .models import State

POLL_S = 5.0
JITTER = 0.2
"""Polls are a fifth earlier or later, so that processes do not ask all at once."""
STALE_POLLS = 3
LEAST_STALE_S = 2.0
FIRST_WAIT_S = 2.0
"""What the first request of a process may wait for the state."""
CHANNEL = "llm_rollout"
LISTEN_AGAIN_S = 60.0


def poll_s() -> float:
    """Return the setting `rollout_poll_s`, in seconds.

    Raises:
        ConfigurationError: it is not a number of seconds above 0.
    """
    text = settings.setting("rollout_poll_s", default=str(POLL_S)).value or ""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"rollout_poll_s is a number of seconds above 0, not {text!r}")
    return seconds


class Keeper:
    """Keeps the state of one flag.

    Args:
        after_poll: awaited after each poll that succeeded.
        changed: called when a decision has changed the state, and for one that was rolled back
            before this process began: its alert may wait for somebody to deliver it.

    Attributes:
        state: what was read last; None until then, and for as long as it is too old.
        is_stale: the database has been away for so long that the state counts no more.
    """

    def __init__(
        self,
        db: Database,
        project: str,
        flag: str,
        *,
        after_poll: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._db = db
        self._key = {"project": project, "flag": flag}
        self._after_poll = after_poll
        self._changed = changed
        self._poll_s = poll_s()
        self._stale_s = max(STALE_POLLS * self._poll_s, LEAST_STALE_S)
        self._state: State | None = None
        self._read_at = 0.0
        self._is_away = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._loading: asyncio.Future[None]

    @property
    def state(self) -> State | None:
        """The state, unless it is too old to go by."""
        return None if self.is_stale else self._state

    @property
    def is_stale(self) -> bool:
        """Whether what was read last is too old; a jump of the wall clock changes nothing."""
        return self._state is not None and time.monotonic() - self._read_at > self._stale_s

    async def ready(self) -> None:
        """Poll from now on, if that is not so yet, and wait for the first answer a little.

        Without one the state is not known; a later poll brings it.
        """
        self.start()
        if not self._loading.done():
            await asyncio.wait([self._loading], timeout=FIRST_WAIT_S)

    def start(self) -> None:
        """Poll in the background; where no event loop runs, nothing is read."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._tasks and not self._tasks[0].done() and self._tasks[0].get_loop() is loop:
            return
        self._wake = asyncio.Event()
        self._loading = loop.create_future()
        self._tasks = [loop.create_task(self._poll())]
        if (listen := getattr(self._db, "notifications", None)) is not None:
            self._tasks.append(loop.create_task(self._listen(listen)))

    async def refresh(self) -> None:
        """Read the state now; the flag is made known, so that people see it."""
        function = "llm_rollout_read" if self._state else "llm_rollout_register"
        try:
            answer = await self._db.call(function, self._key)
            stored = None if answer["state"] is None else State.model_validate(answer["state"])
        except (DatabaseError, ValidationError) as error:
            if not self._is_away:
                self._is_away = True
                event(
                    "rollout.state_unread",
                    level=logging.WARNING,
                    flag=self._key["flag"],
                    error=type(error).__name__,
                    then="the old arm runs until it can be read again",
                )
            return
        if self._is_away:
            self._is_away = False
            event("rollout.state_read_again", flag=self._key["flag"])
        self._take(stored)

    def wake(self) -> None:
        """Poll now."""
        self._wake.set()

    async def aclose(self) -> None:
        """Poll no more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, now: State | None) -> None:
        before, self._state = self._state, now
        self._read_at = time.monotonic()
        if now and (now.latched if before is None else now.revision != before.revision):
            self._changed()

    async def _poll(self) -> None:
        while True:
            await self.refresh()
            if not self._loading.done():
                self._loading.set_result(None)
            if not self._is_away:
                await self._after_poll()
            await self._pause()

    async def _pause(self) -> None:
        seconds = self._poll_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    async def _listen(self, listen: Callable[[str], AsyncGenerator[str]]) -> None:
        """Poll as soon as the database says that something has changed.

        Where no notification passes, such as behind a pooler, polling suffices.
        """
        while True:
            try:
                async with aclosing(listen(CHANNEL)) as heard:
                    async for project in heard:
                        if project == self._key["project"]:
                            self.wake()
            except DatabaseError as error:
                event("rollout.not_listening", level=logging.DEBUG, error=type(error).__name__)
            await asyncio.sleep(LISTEN_AGAIN_S)
