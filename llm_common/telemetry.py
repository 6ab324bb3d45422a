"""One place for logging and spans; silent until a host listens.

Logs carry ids only: no key, prompt, answer or provider error text.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .cost_tracker import Intent, Outcome

logger = logging.getLogger("llm_common")
logger.addHandler(logging.NullHandler())


def event(name: str, *, level: int = logging.INFO, **ids: object) -> None:
    """Log a named event with its ids, as ``name key=value …``; the record's `event` holds them."""
    if logger.isEnabledFor(level):
        text = " ".join(f"{k}={v}" for k, v in ids.items())
        logger.log(level, "%s %s", name, text, extra={"event": {"event": name, **ids}})


class Observation(Protocol):
    """One attempt while it runs."""

    def sending(self) -> AbstractContextManager[object]:
        """Enter while the request is on the wire."""
        ...

    def refused(self, error: BaseException) -> None:
        """Take note that it was not sent."""
        ...

    def settled(self, outcome: Outcome, cost_usd: Decimal | None, latency_s: float) -> None:
        """Take note of how it ended, and how long after its reservation."""
        ...


class Observer(Protocol):
    """Who wants to see every attempt; its methods must not raise."""

    def started(self, operation: str, intent: Intent) -> Observation:
        """Begin to watch an attempt of an operation: chat, embeddings or web_search."""
        ...


_observer: Observer | None = None


def observe(observer: Observer | None) -> None:
    """Show every attempt of this process to one observer; None ends it."""
    global _observer  # noqa: PLW0603 - the one seam, set once by an integration
    _observer = observer


def started(operation: str, intent: Intent) -> Observation | None:
    """Tell the observer, if there is one, that an attempt begins."""
    return None if _observer is None else _observer.started(operation, intent)
