"""Routes of the chat window."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ..auth import user_of
from ..models import AnsweredBy, Turn
from ..services.assistant import Assistant

router = APIRouter()


class ChatRequest(BaseModel):
    """The body of POST /chat and /chat/stream."""

    message: str
    page: str | None = None


class ChatAnswer(BaseModel):
    """What POST /chat returns."""

    response: str
    answered_by: AnsweredBy


def assistant_of(request: Request) -> Assistant:
    """Return what answers."""
    return request.app.state.assistant


AnAssistant = Annotated[Assistant, Depends(assistant_of)]
AUser = Annotated[str, Depends(user_of)]


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """Say that this process answers."""
    return {"status": "ok", "process": os.getpid()}


@router.post("/chat")
async def chat(request: ChatRequest, user_id: AUser, assistant: AnAssistant) -> ChatAnswer:
    """Answer a message."""
    turn = Turn(user_id=user_id, message=request.message, page=request.page)
    answer = await assistant.answer(turn)
    await assistant.remember(turn, answer.text)
    return ChatAnswer(response=answer.text, answered_by=answer.answered_by)


@router.post("/chat/stream")
async def chat_stream(
    request: ChatRequest, user_id: AUser, assistant: AnAssistant
) -> StreamingResponse:
    """Answer a message as server-sent events: `delta` after `delta`, then `done`."""
    turn = Turn(user_id=user_id, message=request.message, page=request.page)
    return StreamingResponse(events(turn, assistant), media_type="text/event-stream")


@router.get("/chat/history")
async def history(user_id: AUser, assistant: AnAssistant) -> list[dict[str, Any]]:
    """Return what was said last, oldest first."""
    return await assistant.history(user_id)


async def events(turn: Turn, assistant: Assistant) -> AsyncGenerator[str]:
    """Write an answer as events; one that breaks off has no `done`."""
    said: list[str] = []
    answered_by = ""
    async with aclosing(assistant.stream(turn)) as pieces:
        async for piece in pieces:
            said.append(piece.text)
            answered_by = piece.answered_by
            yield event("delta", {"text": piece.text})
    await assistant.remember(turn, "".join(said))
    yield event("done", {"answered_by": answered_by})


def event(name: str, data: dict[str, str]) -> str:
    """Write one event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
