"""Users: they ask all the time, and notice everything that fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.children import until
from tests.examples.deployment import Deployment

TIMEOUT_S = 180
A_CONNECTION_EACH = httpx.Limits(max_keepalive_connections=0)
"""So that each worker gets its share of the requests."""


@dataclass(frozen=True)
class Request:
    """What a user asks.

    Attributes:
        unit: who or what the rollout goes by.
        read: takes the answer apart: which code has written it, and what it says.
    """

    unit: str
    path: str
    body: dict[str, Any]
    read: Callable[[httpx.Response], tuple[str, Any]]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What a user got.

    Attributes:
        by: the code that answered; empty for a failure.
        worker: the process that answered.
        seconds: from sending to the last byte.
        problem: what went wrong, else empty.
    """

    unit: str
    path: str
    by: str = ""
    worker: str = ""
    seconds: float = 0
    problem: str = ""
    answer: Any = None


class Load:
    """Makes requests, one after the other or many at once.

    Attributes:
        seen: every answer, in the order in which they came.
    """

    def __init__(self, deployment: Deployment, requests: Iterable[Request]) -> None:
        self.seen: list[Seen] = []
        self._deployment = deployment
        self._requests = iter(requests)
        self._is_over = False

    @property
    def problems(self) -> list[str]:
        """What went wrong so far."""
        return [one.problem for one in self.seen if one.problem]

    async def all(self, at_once: int) -> list[Seen]:
        """Make all requests there are, so many at a time, and return the answers."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=A_CONNECTION_EACH) as client:
            await asyncio.gather(*(self._go_on(client) for _ in range(at_once)))
        return self.seen

    @asynccontextmanager
    async def running(self, at_once: int) -> AsyncIterator[Load]:
        """Make requests in the background until the block ends."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=A_CONNECTION_EACH) as client:
            users = [asyncio.create_task(self._go_on(client)) for _ in range(at_once)]
            try:
                yield self
            finally:
                self._is_over = True
                await asyncio.gather(*users)

    async def until(self, condition: Callable[[list[Seen]], bool], timeout_s: float = 240) -> None:
        """Wait until what comes from now on fulfils a condition; nothing may fail meanwhile."""
        mark = len(self.seen)
        try:
            await until(lambda: bool(self.problems) or condition(self.seen[mark:]), timeout_s)
        except TimeoutError:
            shown = Counter((one.by, one.worker) for one in self.seen[mark:])
            raise AssertionError(f"it did not come to that: {shown}") from None
        self.check()

    def check(self) -> None:
        """Fail if anything has failed, with what the host says of it."""
        assert not self.problems, "\n".join([*self.problems, self._deployment.log])

    async def _go_on(self, client: httpx.AsyncClient) -> None:
        while not self._is_over and (request := next(self._requests, None)):
            self.seen.append(await self._ask(client, request))

    async def _ask(self, client: httpx.AsyncClient, request: Request) -> Seen:
        started = time.monotonic()
        try:
            async with self._deployment.address() as url:
                response = await client.post(
                    url + request.path, json=request.body, headers=request.headers
                )
            response.raise_for_status()
            by, answer = request.read(response)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            problem = f"{request.path} {request.body}: {error!r}"
            return Seen(request.unit, request.path, problem=problem)
        worker = response.headers["x-served-by"]
        took = time.monotonic() - started
        return Seen(request.unit, request.path, by, worker, took, answer=answer)


def count(seen: Iterable[Seen], by: str) -> int:
    """Count the answers of one code."""
    return sum(one.by == by for one in seen)


def everywhere(seen: list[Seen], by: str, workers: set[str], times: int = 3) -> bool:
    """Whether each process has answered by this code alone lately, so many times in a row."""
    return all(
        [one.by for one in seen if one.worker == worker][-times:] == [by] * times
        for worker in workers
    )
