"""`LLMClient`: one call to a model, reserved before it is sent and recorded whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar, Unpack, overload
from uuid import uuid4

from pydantic import BaseModel

from ..cache import LeaseCache
from ..calls import Operation
from ..context import current
from ..cost_tracker import CostTracker, Limit, from_nano, usd
from ..errors import InvalidInputError
from ..routing import Deployment, LLMTask, load_registry, plan
from ..types import Embeddings, LLMResponse, Messages, Where
from .caching import converse_once, response_cache
from .conversation import Question, converse
from .embedding import embed_texts
from .options import CallOptions, EmbedOptions, labels_of
from .requests import check_messages, check_texts, check_ttl, request_for, target_for
from .room import roomy, roomy_for_each
from .streaming import ChatStream
from .structured import check_response_model

M = TypeVar("M", bound=BaseModel)


class LLMClient:
    """A client for one provider's models, or for any model by task.

    Args:
        provider: openrouter, openai, anthropic, gemini, zai, groq, mistral, deepseek, or any
            provider that litellm knows.
        model: used when a call names neither model nor task.
        api_key: None means the provider's environment variable (and its `_2`, `_3`, …).
        base_url: None means `<PROVIDER>_BASE_URL`, then the provider's own address.
        budget_limit_usd: strict total for the life of this client, in USD.
        cost_tracker: reserves and records; None makes one from `where`.
        where: `db`, `db_client` or `supabase_client`, and `project`.

    Raises:
        InvalidInputError: a budget that is not a number of USD.
    """

    def __init__(
        self,
        provider: str = "openrouter",
        *,
        model: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        budget_limit_usd: Decimal | float | str | None = None,
        cost_tracker: CostTracker | None = None,
        **where: Unpack[Where],
    ) -> None:
        self.provider = provider
        self.model = model
        self._api_key = api_key
        self._base_url = base_url
        self._tracker = cost_tracker
        self._where = where
        self._cache: LeaseCache | None = None
        self._limits: tuple[Limit, ...] = ()
        if budget_limit_usd is not None:
            total = usd(budget_limit_usd, "budget_limit_usd")
            self._limits = (Limit("tag", f"client:{uuid4()}", "total", total),)

    @property
    def cost_tracker(self) -> CostTracker:
        """The tracker that every call of this client goes through."""
        if self._tracker is None:
            self._tracker = CostTracker(**self._where)
        return self._tracker

    def with_tracker(self, tracker: CostTracker) -> LLMClient:
        """Return the same client, reserving and recording through another tracker."""
        twin = LLMClient(
            self.provider,
            model=self.model,
            api_key=self._api_key,
            base_url=self._base_url,
            cost_tracker=tracker,
        )
        twin._limits = self._limits
        return twin

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: None = None,
        **options: Unpack[CallOptions],
    ) -> str: ...
    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[M],
        **options: Unpack[CallOptions],
    ) -> M: ...
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[M] | None = None,
        **options: Unpack[CallOptions],
    ) -> str | M:
        """Ask a model; return its text, or the validated `response_model`.

        Raises:
            ConfigurationError, InvalidInputError: the call can't be made; nothing was sent.
            BudgetError: refused before the wire.
            CallError: the last attempt failed; or, without one, the input is certainly too long
                (`ContextLengthError`), or every deployment is to be left alone for too long.
            ResponseValidationError: no answer fitted `response_model`.
        """
        models = [model] if model else None
        return _result(await self._run(messages, models, response_model, options))

    async def chat_with_fallback(
        self,
        messages: Messages,
        models: Sequence[str],
        response_model: type[M] | None = None,
        **options: Unpack[CallOptions],
    ) -> str | M:
        """Ask the first model; where it fails, the next, in the order given.

        A name such as ``anthropic/claude-sonnet-4.5`` is that provider's model, unless it is one
        of the client's own.

        Raises:
            LLMCommonError: as `chat`; a `CallError` is that of the last model tried.
        """
        if not models:
            raise InvalidInputError("models must name at least one model")
        return _result(await self._run(messages, models, response_model, options))

    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[M] | None = None,
        **options: Unpack[CallOptions],
    ) -> LLMResponse[M]:
        """Ask as `chat` does, and return everything that is known about the answer."""
        return await self._run(messages, [model] if model else None, response_model, options)

    def stream(
        self, messages: Messages, model: str | None = None, **options: Unpack[CallOptions]
    ) -> ChatStream:
        """Ask as `chat` does and return the answer as it arrives.

        ``async for delta in llm.stream(messages)``; afterwards `ChatStream.response` has what
        `complete` returns. Leave it early inside ``async with``, and it is recorded at once.

        Raises:
            ConfigurationError, InvalidInputError: the call can't be made; nothing was sent.
            BudgetError, CallError: as `chat`, while it is read.
        """
        check_messages(messages)
        if options.get("cache_ttl_s") is not None:
            raise InvalidInputError(
                "a stream is not cached: leave cache_ttl_s out, or use complete"
            )
        models = [model] if model else None
        deployments = roomy(self._plan(models, options), messages)
        op = self._operation(deployments, models, options)
        return ChatStream(op, deployments, {"messages": messages}, options)

    async def embed(
        self, texts: Sequence[str], model: str | None = None, **options: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Turn texts into vectors, one for each, in one request.

        Raises:
            LLMCommonError: as `chat`.
        """
        check_texts(texts)
        models = [model] if model else None
        given = CallOptions(**options)
        deployments = roomy_for_each(self._plan(models, given), texts)
        op = self._operation(deployments, models, given)
        op.name = "embeddings"
        return await embed_texts(op, deployments, texts, options.get("extra", {}))

    def estimate(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[BaseModel] | None = None,
        **options: Unpack[CallOptions],
    ) -> Decimal | None:
        """Return the most that one attempt can cost, in USD, without sending it.

        None means that the model's price is unknown.
        """
        check_messages(messages)
        arguments: dict[str, Any] = {"messages": messages}
        if response_model is not None:
            check_response_model(response_model)
            arguments["tools"] = [{"function": response_model.model_json_schema()}]
        deployment = self._plan([model] if model else None, options)[0]
        bound = target_for(deployment, request_for(deployment, arguments, options)).bound_nano
        return None if bound is None else from_nano(bound)

    async def aclose(self) -> None:
        """Drain what is pending and release the tracker that this client made."""
        if self._tracker is not None:
            await self._tracker.aclose()

    async def _run(
        self,
        messages: Messages,
        models: Sequence[str] | None,
        response_model: type[M] | None,
        options: CallOptions,
    ) -> LLMResponse[M]:
        check_messages(messages)
        check_ttl(options.get("cache_ttl_s"))
        if response_model is not None:
            check_response_model(response_model)
        deployments = roomy(self._plan(models, options), messages)
        op = self._operation(deployments, models, options)
        question = Question(messages, response_model, options)
        if options.get("cache_ttl_s") is None:
            return await converse(op, deployments, question)
        if self._cache is None:
            self._cache = response_cache(self.cost_tracker)
        return await converse_once(self._cache, op, deployments, question)

    def _plan(self, models: Sequence[str] | None, options: CallOptions) -> tuple[Deployment, ...]:
        task = options.get("task")
        if models is None and task is None:
            if self.model is None:
                raise InvalidInputError(
                    "no model: pass model=… or task=…, or LLMClient(model=…) for a default"
                )
            models = [self.model]
        return plan(
            load_registry(),
            provider=self.provider,
            models=models,
            task=LLMTask(task) if task and models is None else None,
            api_key=self._api_key,
            base_url=self._base_url,
        )

    def _operation(
        self,
        deployments: Sequence[Deployment],
        models: Sequence[str] | None,
        options: CallOptions,
    ) -> Operation:
        prompt = options.get("prompt")
        tags = tuple(limit.scope_id for limit in self._limits)
        return Operation(
            tracker=self.cost_tracker,
            labels=labels_of(current(), options, tags),
            requested_model=models[0] if models else (self.model or deployments[0].model.name),
            timeout_s=options.get("timeout_s", 120.0),
            limits=self._limits,
            prompt=prompt.identity if prompt else (None, None, None),
        )


def _result(response: LLMResponse[M]) -> str | M:
    return response.text if response.parsed is None else response.parsed
