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
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from decimal import Decimal
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

from .analysis import AnalysisPipeline
from .conversation_memory import ConversationMemory
from .cost_tracker import CostTracker
from .errors import InvalidInputError
from .llm_client import ChatStream, LLMClient
from .rollout import Choice, Exposure, Rollout
from .rollout.models import Arm
from .rollout.rollout import Attributes
from .rollout.showing import Columns
from .types import Delta, LLMResponse
from .web_search import WebSearchClient

__all__ = [
    "SyncAnalysisPipeline",
    "SyncChatStream",
    "SyncConversationMemory",
    "SyncCostTracker",
    "SyncLLMClient",
    "SyncRollout",
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


class SyncRollout(_Facade[Rollout]):
    """`Rollout` for threads: its arms are plain functions, which may use the classes here."""

    start = _waiting(Rollout.start)
    close = _waiting(Rollout.aclose)

    def arm(self, unit_id: object, attributes: Attributes | None = None) -> Arm:
        """Return the arm of a unit once the state is read; nothing is recorded."""
        return self.choose(unit_id, attributes).arm

    def choose(self, unit_id: object, attributes: Attributes | None = None) -> Choice:
        """Return the arm of a unit and why; see `Rollout.choose`."""
        self.start()
        return self.wrapped.choose(unit_id, attributes)

    def run(
        self,
        unit_id: object,
        *,
        old: Callable[[], T],
        new: Callable[[], T],
        attributes: Attributes | None = None,
        columns: Columns | None = None,
        old_cost: Callable[[T], Decimal | None] | None = None,
    ) -> T:
        """Run the unit's arm in a thread of its own and return its result; see `Rollout.run`."""
        return run(
            self.wrapped.run(
                unit_id,
                old=lambda: _in_thread(old),
                new=lambda: _in_thread(new),
                attributes=attributes,
                columns=columns,
                old_cost=old_cost,
            )
        )

    def stream(
        self,
        unit_id: object,
        *,
        old: Callable[[], Iterable[T]],
        new: Callable[[], Iterable[T]],
        attributes: Attributes | None = None,
        old_cost: Callable[[list[T]], Decimal | None] | None = None,
    ) -> Generator[T]:
        """Yield what the unit's arm yields; see `Rollout.stream`."""
        items = self.wrapped.stream(
            unit_id,
            old=lambda: _each(old),
            new=lambda: _each(new),
            attributes=attributes,
            old_cost=old_cost,
        )
        try:
            while (item := run(_following(items))) is not _END:
                yield cast("T", item)
        finally:
            run(_closed(items))

    @contextmanager
    def exposure(
        self, unit_id: object, attributes: Attributes | None = None
    ) -> Generator[Exposure]:
        """Show a unit its arm and record how the block ends; see `Rollout.exposure`."""
        choice = self.choose(unit_id, attributes)
        showing = run(_on_loop(lambda: self.wrapped.show(choice)))
        raised: BaseException | None = None
        try:
            with showing.inside():
                yield showing.exposure
        except BaseException as error:
            raised = error
            raise
        finally:
            run(_on_loop(lambda: showing.ended(raised)))

    def instead_of(
        self, old: Callable[P, T], *, unit: Callable[P, object]
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Decorate the new function; see `Rollout.instead_of`."""

        def decorate(new: Callable[P, T]) -> Callable[P, T]:
            @wraps(new)
            def switched(*args: P.args, **kwargs: P.kwargs) -> T:
                return self.run(
                    unit(*args, **kwargs),
                    old=lambda: old(*args, **kwargs),
                    new=lambda: new(*args, **kwargs),
                )

            return switched

        return decorate


_END = object()


async def _on_loop(work: Callable[[], T]) -> T:
    return work()


async def _following(items: AsyncGenerator[T, None]) -> T | object:
    return await anext(items, _END)


async def _closed(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


async def _each(make: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    """Yield the items of a plain iterable, each waited for in a thread."""
    found = await _in_thread(lambda: iter(make()))
    try:
        while (item := await _in_thread(lambda: next(found, _END))) is not _END:
            yield cast("T", item)
    finally:
        if isinstance(found, Generator):
            found.close()


async def _in_thread(work: Callable[[], T]) -> T:
    """Run a plain function in a thread of its own, with the labels of this task.

    Not in the loop's own threads: they are few, and what waits in them for a call of ours might
    wait for a thread that it occupies itself.
    """
    threads = ThreadPoolExecutor(1, thread_name_prefix="llm_common_arm")
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, copy_context().run, work)
    finally:
        threads.shutdown(wait=False)


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
