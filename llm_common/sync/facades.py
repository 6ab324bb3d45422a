"""The classes of this library, for threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from decimal import Decimal
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from ..analysis import AnalysisPipeline
from ..conversation_memory import ConversationMemory
from ..cost_tracker import CostTracker
from ..enrichment import EnrichedRow, EnrichmentPipeline
from ..llm_client import ChatStream, LLMClient
from ..rollout import Choice, Exposure, Rollout
from ..rollout.models import Arm
from ..rollout.rollout import Attributes
from ..rollout.showing import Columns
from ..types import Delta, LLMResponse
from ..web_search import WebSearchClient
from .loop import END, Facade, closed, each, following, in_thread, on_loop, passing, run, waiting

A = TypeVar("A")
T = TypeVar("T")
P = ParamSpec("P")


def _streaming(
    method: Callable[Concatenate[A, P], ChatStream],
) -> Callable[Concatenate[Facade[A], P], SyncChatStream]:
    @wraps(method)
    def call(self: Facade[A], *args: P.args, **kwargs: P.kwargs) -> SyncChatStream:
        return SyncChatStream(method(self.wrapped, *args, **kwargs))

    return call


class SyncChatStream(Facade[ChatStream]):
    """A `ChatStream` for ``for``; leave it early inside ``with``, and it is recorded at once."""

    close = waiting(ChatStream.aclose)

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


class SyncLLMClient(Facade[LLMClient]):
    """`LLMClient` for threads: ``SyncLLMClient(LLMClient(provider="openai"))``."""

    chat = waiting(LLMClient.chat)
    chat_with_fallback = waiting(LLMClient.chat_with_fallback)
    complete = waiting(LLMClient.complete)
    embed = waiting(LLMClient.embed)
    stream = _streaming(LLMClient.stream)
    estimate = passing(LLMClient.estimate)
    close = waiting(LLMClient.aclose)


class SyncCostTracker(Facade[CostTracker]):
    """`CostTracker` for threads."""

    limit = passing(CostTracker.limit)
    log_cost = waiting(CostTracker.log_cost)
    get_daily_cost = waiting(CostTracker.get_daily_cost)
    get_monthly_cost = waiting(CostTracker.get_monthly_cost)
    get_cost_breakdown = waiting(CostTracker.get_cost_breakdown)
    get_budgets = waiting(CostTracker.get_budgets)
    flush = waiting(CostTracker.flush)
    close = waiting(CostTracker.aclose)


class SyncWebSearchClient(Facade[WebSearchClient]):
    """`WebSearchClient` for threads."""

    search = waiting(WebSearchClient.search)
    answer = waiting(WebSearchClient.answer)
    get_cache_stats = waiting(WebSearchClient.get_cache_stats)
    close = waiting(WebSearchClient.aclose)


class SyncConversationMemory(Facade[ConversationMemory]):
    """`ConversationMemory` for threads."""

    get_context = waiting(ConversationMemory.get_context)
    save_message = waiting(ConversationMemory.save_message)
    close = waiting(ConversationMemory.aclose)


class SyncAnalysisPipeline(Facade[AnalysisPipeline[Any, Any]]):
    """`AnalysisPipeline` for threads; results are of its preset's type."""

    run = waiting(AnalysisPipeline[Any, Any].run)
    run_until = waiting(AnalysisPipeline[Any, Any].run_until)
    stored = waiting(AnalysisPipeline[Any, Any].stored)
    estimate = passing(AnalysisPipeline[Any, Any].estimate)


class SyncEnrichmentPipeline(Facade[EnrichmentPipeline]):
    """`EnrichmentPipeline` for threads."""

    submit = waiting(EnrichmentPipeline.submit)
    start = waiting(EnrichmentPipeline.start)
    wait = waiting(EnrichmentPipeline.wait)
    run = waiting(EnrichmentPipeline.run)
    enrich = waiting(EnrichmentPipeline.enrich)
    pilot = waiting(EnrichmentPipeline.pilot)
    estimate = passing(EnrichmentPipeline.estimate)
    progress = waiting(EnrichmentPipeline.progress)
    status = waiting(EnrichmentPipeline.status)
    jobs = waiting(EnrichmentPipeline.jobs)
    job = waiting(EnrichmentPipeline.job)
    result = waiting(EnrichmentPipeline.result)
    pause = waiting(EnrichmentPipeline.pause)
    cancel = waiting(EnrichmentPipeline.cancel)
    resume = waiting(EnrichmentPipeline.resume)
    retry = waiting(EnrichmentPipeline.retry)
    rerun = waiting(EnrichmentPipeline.rerun)
    close = waiting(EnrichmentPipeline.aclose)

    def rows(self, job_id: str) -> list[EnrichedRow]:
        """Return the rows of a job in the order of the table; see `EnrichmentPipeline.rows`."""

        async def read() -> list[EnrichedRow]:
            return [row async for row in self.wrapped.rows(job_id)]

        return run(read())


class SyncRollout(Facade[Rollout]):
    """`Rollout` for threads: its arms are plain functions, which may use the classes here."""

    start = waiting(Rollout.start)
    close = waiting(Rollout.aclose)

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
                old=lambda: in_thread(old),
                new=lambda: in_thread(new),
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
            old=lambda: each(old),
            new=lambda: each(new),
            attributes=attributes,
            old_cost=old_cost,
        )
        try:
            while (item := run(following(items))) is not END:
                yield cast("T", item)
        finally:
            run(closed(items))

    @contextmanager
    def exposure(
        self, unit_id: object, attributes: Attributes | None = None
    ) -> Generator[Exposure]:
        """Show a unit its arm and record how the block ends; see `Rollout.exposure`."""
        choice = self.choose(unit_id, attributes)
        showing = run(on_loop(lambda: self.wrapped.show(choice)))
        raised: BaseException | None = None
        try:
            with showing.inside():
                yield showing.exposure
        except BaseException as error:
            raised = error
            raise
        finally:
            run(on_loop(lambda: showing.ended(raised)))

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
