"""The exchanges of one operation, and what they came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from ..calls import Answer, Operation, attempt, operate
from ..cost_tracker import Kind
from ..providers import ChatRequest, Reply, fault, provider_for
from ..routing import Deployment, Policy
from ..types import LLMResponse, Messages, Usage
from .options import CallOptions
from .requests import request_for, target_for
from .structured import ask_for

M = TypeVar("M", bound=BaseModel)

POLICY = Policy()
NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Question(Generic[M]):
    """What a caller wants to know."""

    messages: Messages
    response_model: type[M] | None
    options: CallOptions


class Conversation:
    """The exchanges of one operation: the question, and the reasks that follow it."""

    def __init__(
        self, op: Operation, deployments: Sequence[Deployment], options: CallOptions
    ) -> None:
        self._op = op
        self._deployments = deployments
        self._options = options
        self._last: tuple[Deployment, Reply] | None = None

    async def ask(self, arguments: Mapping[str, Any]) -> Reply:
        """Send messages, to the deployment that answered last or, at first, to whose turn it is."""
        if self._last is not None:
            self._op.first_kind = "reask"

        async def try_one(deployment: Deployment, kind: Kind) -> tuple[Deployment, Reply]:
            request = request_for(deployment, arguments, self._options)
            return deployment, await self._send(deployment, request, kind)

        self._last = await operate(self._op, self._deployments, try_one, POLICY)
        return self._last[1]

    async def _send(self, deployment: Deployment, request: ChatRequest, kind: Kind) -> Reply:
        target = target_for(deployment, request)

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
        return describe(self._op, *self._last, parsed)


async def converse(
    op: Operation, deployments: Sequence[Deployment], question: Question[M]
) -> LLMResponse[M]:
    """Ask, and ask again until the answer fits `response_model`; return what it came to.

    Raises:
        BudgetError: refused before the wire.
        CallError: the last attempt failed.
        ResponseValidationError: no answer fitted.
    """
    conversation = Conversation(op, deployments, question.options)
    if question.response_model is None:
        await conversation.ask({"messages": question.messages})
        return conversation.response(None)
    parsed = await ask_for(
        question.response_model,
        [dict(m) for m in question.messages],
        conversation.ask,
        mode=deployments[0].model.structured,
        max_reasks=question.options.get("max_reasks", 2),
    )
    return conversation.response(parsed)


def describe(
    op: Operation, deployment: Deployment, reply: Reply, parsed: M | None = None
) -> LLMResponse[M]:
    """Describe an operation by the reply that ended it."""
    prompt_id, prompt_version, prompt_hash = op.prompt
    return LLMResponse[M](
        text=reply.text,
        parsed=parsed,
        tool_calls=reply.tool_calls,
        message=reply.message,
        finish_reason=reply.finish_reason,
        usage=reply.usage or NO_USAGE,
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
