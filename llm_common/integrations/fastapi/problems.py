"""Errors as answers: one sentence each, whatever was wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from logging import ERROR
from typing import Any, cast

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Message, Receive

from ...errors import (
    BudgetError,
    DatabaseUnavailableError,
    InvalidInputError,
    JobConflictError,
    JobStateError,
    LLMCommonError,
    SchemaError,
)
from ...telemetry import event
from .answers import Problem

STATUS: Mapping[type[LLMCommonError], int] = {
    JobConflictError: 409,
    JobStateError: 409,
    InvalidInputError: 422,
    BudgetError: 402,
    DatabaseUnavailableError: 503,
    SchemaError: 503,
}
"""The first that an error is an instance of counts; others are ours to mend: 500."""

MOST_BYTES = 1_000_000
"""Of a body that is no upload."""

MEANING = {
    401: "not authorised",
    402: "the budget does not allow it",
    403: "not authorised",
    404: "there is no such job or review",
    409: "the job or review is not in a state for it, or the key is that of another request",
    413: "the upload or the table is too large",
    415: "the body is neither JSON nor a form with a file",
    422: "the request can't be used",
    500: "the server is not set up for it",
    503: "the database can't be reached",
}


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of the errors that a route answers with, by status."""
    usual = (401, 403, 422, 500, 503)
    return {
        code: {"model": Problem, "description": MEANING[code]} for code in sorted({*usual, *codes})
    }


def responses_of_events(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the same for a route whose usual answer is no JSON."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    said = responses(*codes)
    return {code: {"description": said[code]["description"], "content": content} for code in said}


class ProblemRoute(APIRoute):
    """A route whose errors are one sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with our errors as answers."""
        handle = super().get_route_handler()
        is_read_by_fastapi = self.body_field is not None

        async def handled(request: Request) -> Response:
            if is_read_by_fastapi:
                request = Request(request.scope, _capped(request.receive))
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _answer(422, sentence(error.errors()))
            except StarletteHTTPException as error:
                if error.status_code != 400:
                    raise
                # FastAPI's, of bytes that are no text.
                return _answer(422, "the body is no JSON in UTF-8")
            except LLMCommonError as error:
                return _answer(status_of(error), str(error))

        return handled


def _capped(receive: Receive) -> Receive:
    """Return a `receive` that refuses a body which no form of ours is as long as."""
    size = 0

    async def capped() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MOST_BYTES:
            raise HTTPException(413, f"the body is larger than {MOST_BYTES:,} bytes")
        return message

    return capped


def status_of(error: LLMCommonError) -> int:
    """Return the HTTP status of an error."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        event("enrichment.request_failed", level=ERROR, error=type(error).__name__)
    return status


def sentence(errors: Sequence[Any]) -> str:
    """Say what is wrong with a request, without what it holds."""
    first = cast("Mapping[str, Any]", errors[0])
    where = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"


def invalid(error: ValidationError, what: str) -> InvalidInputError:
    """Return an error of a model as one of ours."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    return InvalidInputError(f"{what}: {sentence(errors)}")


def absent(error: InvalidInputError) -> HTTPException:
    """Return the answer to an id that nothing has."""
    return HTTPException(404, str(error))


def _answer(status: int, detail: str) -> JSONResponse:
    headers = {"Retry-After": "5"} if status == 503 else None
    return JSONResponse({"detail": detail}, status, headers)
