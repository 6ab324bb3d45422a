"""What the chat window sends and gets, whichever code answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

AnsweredBy = Literal["old client", "llm_common"]


class Turn(BaseModel):
    """What a user said, and where."""

    user_id: str
    message: str
    page: str | None = None


class Piece(BaseModel):
    """An answer, or the next few words of one."""

    text: str
    answered_by: AnsweredBy
