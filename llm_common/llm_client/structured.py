"""Answers that fit a schema: instructor's schemas and validation over our own `create`."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from ..errors import InvalidInputError, LLMCommonError, ResponseValidationError
from ..providers import Reply

M = TypeVar("M", bound=BaseModel)

Ask = Callable[[dict[str, Any]], Awaitable[Reply]]
"""Sends one conversation, with whatever `tools` or `response_format` the schema needs."""

_MODES = {"tools": "TOOLS", "json_schema": "JSON_SCHEMA", "json": "JSON"}
_NOTHING = "\N{NULL}"
_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)


def check_response_model(model: object) -> None:
    """Refuse anything but a pydantic model class.

    Raises:
        InvalidInputError: it is something else.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise InvalidInputError(f"response_model must be a pydantic model class, not {model!r}")


async def ask_for(
    response_model: type[M],
    messages: list[dict[str, Any]],
    ask: Ask,
    *,
    mode: str,
    max_reasks: int,
) -> M:
    """Ask until the answer validates, telling the model each time what was wrong with it.

    Args:
        ask: called once for the question and once for each reask.
        mode: how the model is made to answer a schema: tools, json_schema or json.
        max_reasks: how often to ask again.

    Raises:
        ResponseValidationError: no answer validated.
        LLMCommonError: whatever `ask` raises.
    """
    import instructor
    from instructor.core import IncompleteOutputException, InstructorRetryException

    _quiet()
    failure: list[LLMCommonError] = []

    async def create(**kwargs: Any) -> Any:
        kwargs["messages"] = [_bare(message) for message in kwargs["messages"]]
        try:
            return _completion(await ask(kwargs))
        except LLMCommonError as error:
            failure.append(error)
            raise

    create_for = cast(
        "Callable[..., Awaitable[M]]",
        instructor.patch(create=create, mode=instructor.Mode[_MODES[mode]]),
    )
    try:
        parsed = await create_for(
            messages=[_filled(message) for message in messages],
            response_model=response_model,
            max_retries=max_reasks,
        )
    except (InstructorRetryException, IncompleteOutputException) as error:
        if failure:
            raise failure[-1] from None
        raise ResponseValidationError(_explain(response_model, error, max_reasks + 1)) from None
    return _undress(parsed, response_model)


def _filled(message: dict[str, Any]) -> dict[str, Any]:
    """Put something where a message has no content: instructor would make it an empty list."""
    return message if message.get("content") else {**message, "content": _NOTHING}


def _bare(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": None} if message.get("content") == _NOTHING else message


def _quiet() -> None:
    """Keep instructor from logging what models answered, unless the host wants it to."""
    logger = logging.getLogger("instructor")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)


def _undress(parsed: M, response_model: type[M]) -> M:
    """Make the answer what the caller asked for: instructor returns a subclass with extras."""
    for name in ("_raw_response", "_total_usage"):
        vars(parsed).pop(name, None)
    object.__setattr__(parsed, "__class__", response_model)
    return parsed


def _explain(model: type[BaseModel], error: Exception, asked: int) -> str:
    cut = "; it was cut off at max_tokens" if "Incomplete" in type(error).__name__ else ""
    return f"no answer fitted {model.__name__}, asked up to {asked} times{cut}"


def _completion(reply: Reply) -> Any:
    """Dress a reply as what instructor reads: an OpenAI chat completion."""
    from openai.types.chat import ChatCompletion

    fenced = _FENCE.match(reply.text)
    message = {
        "role": "assistant",
        "content": fenced[1] if fenced else reply.text,
        "refusal": reply.refusal,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reply.tool_calls
        ]
        or None,
    }
    return ChatCompletion.model_validate(
        {
            "id": reply.request_id or "",
            "object": "chat.completion",
            "created": 0,
            "model": reply.model,
            "choices": [{"index": 0, "finish_reason": reply.finish_reason, "message": message}],
        }
    )
