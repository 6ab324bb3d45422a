"""The event loop that all threads share, and what makes a class wait for it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from ..cost_tracker import drain_on_sigterm as _  # noqa: F401 - see the end of the file
from ..errors import InvalidInputError

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


class Facade(Generic[A]):
    """What waits for the methods of `wrapped`."""

    def __init__(self, wrapped: A) -> None:
        self.wrapped = wrapped


def waiting(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Facade[A], P], T]:
    """Make a method that waits for an asynchronous one."""

    @wraps(method)
    def call(self: Facade[A], *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self.wrapped, *args, **kwargs))

    return call


def passing(method: Callable[Concatenate[A, P], T]) -> Callable[Concatenate[Facade[A], P], T]:
    """Pass a method on that does not wait."""

    @wraps(method)
    def call(self: Facade[A], *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self.wrapped, *args, **kwargs)

    return call


END = object()


async def on_loop(work: Callable[[], T]) -> T:
    """Call a plain function on the loop."""
    return work()


async def following(items: AsyncGenerator[T, None]) -> T | object:
    """Return the next item, or `END`."""
    return await anext(items, END)


async def closed(items: AsyncGenerator[Any, None]) -> None:
    """Close a generator."""
    await items.aclose()


async def each(make: Callable[[], Iterable[T]]) -> AsyncGenerator[T, None]:
    """Yield the items of a plain iterable, each waited for in a thread."""
    found = await in_thread(lambda: iter(make()))
    try:
        while (item := await in_thread(lambda: next(found, END))) is not END:
            yield cast("T", item)
    finally:
        if isinstance(found, Generator):
            found.close()


async def in_thread(work: Callable[[], T]) -> T:
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
