"""The same classes for threads: every method waits, on one event loop that all threads share.

Nothing is written twice: each method below is the asynchronous one, run on the shared loop. So all
threads of a process share connections, limits and budgets. What `context.labels` says in a thread
holds for its calls.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from .analysis import AnalysisPipeline
from .conversation_memory import ConversationMemory
from .cost_tracker import CostTracker
from .errors import InvalidInputError
from .llm_client import ChatStream, LLMClient
from .types import Delta, LLMResponse
from .web_search import WebSearchClient

__all__ = [
    "SyncAnalysisPipeline",
    "SyncChatStream",
    "SyncConversationMemory",
    "SyncCostTracker",
    "SyncLLMClient",
    "SyncWebSearchClient",
    "run",
]

A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")

STOP_S = 5.0
"""How long the end of the process waits for calls that are still being recorded."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the shared loop and wait for it; Ctrl-C cancels it.

    Raises:
        InvalidInputError: this thread runs an event loop, which would stand still: `await` there.
        BaseException: whatever the coroutine raises.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        future = asyncio.run_coroutine_threadsafe(work, _loop())
    else:
        work.close()
        raise InvalidInputError("this thread runs an event loop: use the asynchronous class")
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _Facade(Generic[A]):
    """What waits for the methods of `wrapped`."""

    def __init__(self, wrapped: A) -> None:
        self.wrapped = wrapped


def _waiting(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Facade[A], P], T]:
    @wraps(method)
    def call(self: _Facade[A], *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self.wrapped, *args, **kwargs))

    return call


def _passing(method: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[_Facade[A], P], T]:
    @wraps(method)
    def call(self: _Facade[A], *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self.wrapped, *args, **kwargs)

    return call


def _streaming(
    method: Callable[Concatenate[A, P], ChatStream],
) -> Callable[Concatenate[_Facade[A], P], SyncChatStream]:
    @wraps(method)
    def call(self: _Facade[A], *args: P.args, **kwargs: P.kwargs) -> SyncChatStream:
        return SyncChatStream(method(self.wrapped, *args, **kwargs))

    return call


class SyncChatStream(_Facade[ChatStream]):
    """A `ChatStream` for ``for``; leave it early inside ``with``, and it is recorded at once."""

    close = _waiting(ChatStream.aclose)

    @property
    def response(self) -> LLMResponse[Any]:
        """See `ChatStream.response`."""
        return self.wrapped.response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        delta = run(_next(self.wrapped))
        if delta is None:
            raise StopIteration
        return delta

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _next(stream: ChatStream) -> Delta | None:
    return await anext(stream, None)


class SyncLLMClient(_Facade[LLMClient]):
    """`LLMClient` for threads: ``SyncLLMClient(LLMClient(provider="openai"))``."""

    chat = _waiting(LLMClient.chat)
    chat_with_fallback = _waiting(LLMClient.chat_with_fallback)
    complete = _waiting(LLMClient.complete)
    embed = _waiting(LLMClient.embed)
    stream = _streaming(LLMClient.stream)
    estimate = _passing(LLMClient.estimate)
    close = _waiting(LLMClient.aclose)


class SyncCostTracker(_Facade[CostTracker]):
    """`CostTracker` for threads."""

    limit = _passing(CostTracker.limit)
    log_cost = _waiting(CostTracker.log_cost)
    get_daily_cost = _waiting(CostTracker.get_daily_cost)
    get_monthly_cost = _waiting(CostTracker.get_monthly_cost)
    get_cost_breakdown = _waiting(CostTracker.get_cost_breakdown)
    get_budgets = _waiting(CostTracker.get_budgets)
    flush = _waiting(CostTracker.flush)
    close = _waiting(CostTracker.aclose)


class SyncWebSearchClient(_Facade[WebSearchClient]):
    """`WebSearchClient` for threads."""

    search = _waiting(WebSearchClient.search)
    answer = _waiting(WebSearchClient.answer)
    get_cache_stats = _waiting(WebSearchClient.get_cache_stats)
    close = _waiting(WebSearchClient.aclose)


class SyncConversationMemory(_Facade[ConversationMemory]):
    """`ConversationMemory` for threads."""

    get_context = _waiting(ConversationMemory.get_context)
    save_message = _waiting(ConversationMemory.save_message)
    close = _waiting(ConversationMemory.aclose)


class SyncAnalysisPipeline(_Facade[AnalysisPipeline[Any, Any]]):
    """`AnalysisPipeline` for threads; results are of its preset's type."""

    run = _waiting(AnalysisPipeline[Any, Any].run)
    run_until = _waiting(AnalysisPipeline[Any, Any].run_until)
    stored = _waiting(AnalysisPipeline[Any, Any].stored)
    estimate = _passing(AnalysisPipeline[Any, Any].estimate)


class _Background:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(_serve(started)), name="llm_common", daemon=True
        )
        self._thread.start()
        self.loop, self._stop = started.result()

    def stop(self) -> None:
        """Cancel what runs, let it be recorded, and end the thread."""
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_S)


async def _serve(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    stop = asyncio.Event()
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()


_guard = threading.Lock()
_background: list[_Background] = []


def _loop() -> asyncio.AbstractEventLoop:
    with _guard:
        if not _background:
            _background.append(_Background())
        return _background[0].loop


def _stop() -> None:
    while _background:
        _background.pop().stop()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _guard  # noqa: PLW0603 - another thread may have held it in the parent
    _guard = threading.Lock()
    _background.clear()


# Registered after the ledger's own, and so run before it: it drains what is cancelled here.
atexit.register(_stop)
os.register_at_fork(after_in_child=_forget)
