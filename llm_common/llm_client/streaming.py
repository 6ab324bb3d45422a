"""An answer as it arrives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Self

from ..calls import Answer, Operation, attempt_stream, operate
from ..cost_tracker import Kind
from ..errors import CallError, InvalidInputError
from ..providers import Reply, Transcript, deltas_of, fault
from ..routing import Deployment
from ..types import Delta, LLMResponse
from .conversation import POLICY, describe
from .options import CallOptions
from .requests import request_for, target_for


class ChatStream:
    """The deltas of one answer; made by `LLMClient.stream`, read once with ``async for``.

    Nothing is sent before the first delta is asked for. Another deployment is tried only until
    the first delta is there. A stream that is left early is recorded all the same: at once with
    `aclose` or ``async with``, otherwise as soon as nothing refers to it any more.
    """

    def __init__(
        self,
        op: Operation,
        deployments: Sequence[Deployment],
        arguments: Mapping[str, Any],
        options: CallOptions,
    ) -> None:
        self._course = _Course(op, arguments, options)
        # The generator does not know this object: dropping it drops the generator.
        self._deltas = _read(self._course, deployments)

    @property
    def response(self) -> LLMResponse[Any]:
        """Everything that is known about the answer.

        Raises:
            InvalidInputError: the stream was not read to its end.
        """
        if self._course.response is None:
            raise InvalidInputError("a stream has a response once it was read to its end")
        return self._course.response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def aclose(self) -> None:
        """Close the connection and record what was received; harmless after the end."""
        await self._deltas.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Course:
    """How far one stream has come."""

    def __init__(self, op: Operation, arguments: Mapping[str, Any], options: CallOptions) -> None:
        self.op = op
        self.response: LLMResponse[Any] | None = None
        self._arguments = arguments
        self._options = options
        self._last: tuple[Deployment, Reply] | None = None

    async def start(
        self, deployment: Deployment, kind: Kind
    ) -> tuple[Delta, AsyncGenerator[Delta, None]]:
        """Begin an attempt; return its first delta and the rest."""
        request = request_for(deployment, self._arguments, self._options)
        transcript = Transcript(deployment)
        deltas = attempt_stream(
            self.op,
            target_for(deployment, request),
            kind,
            deltas_of(deployment, request, transcript, self.op.timeout_s),
            partial(self._arrived, deployment, transcript),
        )
        return await anext(deltas), deltas

    def finish(self) -> None:
        """Describe the answer, once it is recorded."""
        if self._last is not None:
            self.response = describe(self.op, *self._last)

    def _arrived(self, deployment: Deployment, transcript: Transcript) -> Answer[Reply | None]:
        try:
            reply = transcript.reply()
        except CallError as error:
            usage, cost_usd, model = transcript.usage, transcript.cost_usd, transcript.model
            return Answer(None, usage, cost_usd, model, error)
        self._last = deployment, reply
        return Answer(reply, reply.usage, reply.cost_usd, reply.model, fault(reply, deployment))


async def _read(course: _Course, deployments: Sequence[Deployment]) -> AsyncGenerator[Delta, None]:
    first, rest = await operate(course.op, deployments, course.start, POLICY)
    async with aclosing(rest):
        yield first
        async for delta in rest:
            yield delta
        course.finish()
