"""`LLMClient`: one call to a model, reserved before it is sent and recorded whatever happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypedDict, TypeVar, Unpack, overload
from uuid import uuid4

from pydantic import BaseModel

from ..calls import Answer, Operation, Target, attempt, operate
from ..context import Labels, current
from ..cost_tracker import CostTracker, Kind, Limit, from_nano, usd
from ..cost_tracker.bounds import TokenBound, token_bound
from ..errors import InvalidInputError
from ..pricing import Price, price_of, upper_bound_nano
from ..prompts import Prompt
from ..providers import ChatRequest, Reply, fault, provider_for
from ..routing import Deployment, LLMTask, Policy, load_registry, plan
from ..types import LLMResponse, Messages, Where
from .structured import ask_for, check_response_model

M = TypeVar("M", bound=BaseModel)

POLICY = Policy()


class CallOptions(TypedDict, total=False):
    """What any call may say beside its messages and model.

    Attributes:
        task: choose the model by task, in place of `model`.
        max_tokens: most that the answer may hold; the model's own default if absent.
        step: label of the ledger row, as are `user` and `tags`; absent ones come from
            `context.labels`.
        prompt: the template that the messages were made from; its id, version and hash are
            recorded.
        timeout_s: deadline of one attempt, in seconds (120).
        max_reasks: how often an answer that does not fit `response_model` is asked again (2).
        extra: arguments that are passed to the provider as they are.
    """

    task: LLMTask | str | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    tools: Sequence[Mapping[str, Any]]
    tool_choice: Any
    step: str | None
    user: str | None
    tags: Sequence[str]
    prompt: Prompt | None
    timeout_s: float
    max_reasks: int
    extra: Mapping[str, Any]


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
            CallError: the last attempt failed.
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
        _check(messages)
        arguments: dict[str, Any] = {"messages": messages}
        if response_model is not None:
            check_response_model(response_model)
            arguments["tools"] = [{"function": response_model.model_json_schema()}]
        deployment = self._plan([model] if model else None, options)[0]
        bound = _target(deployment, _request(deployment, arguments, options)).bound_nano
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
        _check(messages)
        if response_model is not None:
            check_response_model(response_model)
        deployments = self._plan(models, options)
        op = self._operation(deployments, models, options)
        conversation = _Conversation(op, deployments, options)
        parsed: M | None = None
        if response_model is None:
            await conversation.ask({"messages": messages})
        else:
            parsed = await ask_for(
                response_model,
                [dict(m) for m in messages],
                conversation.ask,
                mode=deployments[0].model.structured,
                max_reasks=options.get("max_reasks", 2),
            )
        return conversation.response(parsed)

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
            labels=_labels(current(), options, tags),
            requested_model=models[0] if models else (self.model or deployments[0].model.name),
            timeout_s=options.get("timeout_s", 120.0),
            limits=self._limits,
            prompt=prompt.identity if prompt else (None, None, None),
        )


class _Conversation:
    """The exchanges of one operation: the question, and the reasks that follow it."""

    def __init__(
        self, op: Operation, deployments: Sequence[Deployment], options: CallOptions
    ) -> None:
        self._op = op
        self._deployments = deployments
        self._options = options
        self._last: tuple[Deployment, Reply] | None = None

    async def ask(self, arguments: Mapping[str, Any]) -> Reply:
        """Send messages, to the deployment that answered last or, at first, in order."""
        if self._last is not None:
            place = self._deployments.index(self._last[0])
            self._deployments = self._deployments[place:]
            self._op.first_kind = "reask"

        async def try_one(deployment: Deployment, kind: Kind) -> tuple[Deployment, Reply]:
            request = _request(deployment, arguments, self._options)
            return deployment, await self._send(deployment, request, kind)

        self._last = await operate(self._op, self._deployments, try_one, POLICY)
        return self._last[1]

    async def _send(self, deployment: Deployment, request: ChatRequest, kind: Kind) -> Reply:
        target = _target(deployment, request)

        async def send() -> Answer[Reply]:
            reply = await provider_for(deployment).send(
                deployment, request, timeout_s=self._op.timeout_s
            )
            return Answer(reply, reply.usage, reply.cost_usd, reply.model, fault(reply, deployment))

        return (await attempt(self._op, target, kind, send)).value

    def response(self, parsed: M | None) -> LLMResponse[M]:
        """Describe the operation, once it has been answered."""
        if self._last is None:
            raise RuntimeError("an operation that was not asked has no response")
        (deployment, reply), op = self._last, self._op
        prompt_id, prompt_version, prompt_hash = op.prompt
        return LLMResponse[M](
            text=reply.text,
            parsed=parsed,
            tool_calls=reply.tool_calls,
            finish_reason=reply.finish_reason,
            usage=reply.usage or LLMResponse.model_fields["usage"].default,
            cost_usd=op.cost_usd,
            cost_source=op.cost_source,
            provider=deployment.provider,
            requested_model=op.requested_model,
            model=reply.model,
            deployment=deployment.alias,
            attempts=op.attempts,
            latency_ms=round(op.elapsed_s * 1000),
            operation_id=op.id,
            prompt_id=prompt_id,
            prompt_version=prompt_version,
            prompt_hash=prompt_hash,
        )


def _result(response: LLMResponse[M]) -> str | M:
    return response.text if response.parsed is None else response.parsed


def _check(messages: Messages) -> None:
    if isinstance(messages, (str, bytes)) or not messages:
        raise InvalidInputError("messages must be a list of {'role': …, 'content': …}, not empty")
    for number, message in enumerate(messages):
        if "role" not in message:
            raise InvalidInputError(f"messages[{number}] has no 'role'")


def _labels(labels: Labels, options: CallOptions, tags: tuple[str, ...]) -> Labels:
    task = options.get("task")
    return replace(
        labels,
        step=options.get("step") or labels.step,
        user=options.get("user") or labels.user,
        task=str(task) if task else labels.task,
        tags=(*labels.tags, *options.get("tags", ()), *tags),
    )


def _request(
    deployment: Deployment, arguments: Mapping[str, Any], options: CallOptions
) -> ChatRequest:
    """Merge what the caller said with what the schema needs."""
    spec = deployment.model
    return ChatRequest(
        messages=arguments["messages"],
        max_tokens=options.get("max_tokens") or spec.default_max_tokens,
        temperature=options.get("temperature"),
        seed=options.get("seed"),
        tools=tuple(arguments.get("tools") or options.get("tools", ())),
        tool_choice=arguments.get("tool_choice", options.get("tool_choice")),
        response_format=arguments.get("response_format"),
        extra=options.get("extra", {}),
    )


def _target(deployment: Deployment, request: ChatRequest) -> Target:
    spec = deployment.model
    price = price_of(deployment.provider, spec.id)
    bound = token_bound(
        request.messages,
        tools=request.tools,
        response_format=request.response_format,
        max_tokens=request.max_tokens,
        extra=request.extra,
        model=spec.id,
    )
    nano = _bound_nano([price, *(price_of(deployment.provider, m) for m in bound.models)], bound)
    return Target(deployment.provider, spec.id, deployment.key_alias, price, nano)


def _bound_nano(prices: Sequence[Price | None], bound: TokenBound) -> int | None:
    """Price a bound by the dearest model that may serve it; None when one's price is unknown."""
    nanos = [
        price and upper_bound_nano(price, bound.input_tokens, bound.output_tokens)
        for price in prices
    ]
    known = [nano for nano in nanos if nano is not None]
    return max(known) + bound.fees_nano if len(known) == len(nanos) else None
