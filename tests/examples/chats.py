"""prime_radiant's users: every other answer is a stream."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import httpx

from tests.examples.load import Request

OLD, NEW = "old client", "llm_common"
QUESTIONS = (
    "My bonds are mostly municipal and I hold them in a taxable account. What do they yield?",
    "I sold a fund at a loss in March and bought a similar one in April. Is that a wash sale?",
    "My employer matches half of what I put into the retirement plan. How much should I put in?",
    "A third of my portfolio is one company's stock that I got as pay. How do I spread the risk?",
)
PAGES = ("portfolio", "tax", None)


def users(number: int) -> list[str]:
    """Return the ids of users, always the same."""
    return [str(UUID(int=n)) for n in range(1, number + 1)]


def authorization(user_id: str) -> dict[str, str]:
    """Return the header that says who asks."""
    return {"Authorization": f"Example {user_id}"}


def chats(ids: Sequence[str], *, streams: bool = True) -> Iterator[Request]:
    """Ask a question for each user, every other one as a stream."""
    questions = zip(itertools.cycle(QUESTIONS), itertools.cycle(PAGES), strict=False)
    for number, (user_id, (message, page)) in enumerate(zip(ids, questions, strict=False)):
        body, headers = {"message": message, "page": page}, authorization(user_id)
        if streams and number % 2:
            yield Request(user_id, "/chat/stream", body, read_stream, headers)
        else:
            yield Request(user_id, "/chat", body, read, headers)


def read(response: httpx.Response) -> tuple[str, Any]:
    """Take an answer apart."""
    answer = response.json()
    if not answer["response"]:
        raise ValueError("an empty answer")
    return answer["answered_by"], answer["response"]


def read_stream(response: httpx.Response) -> tuple[str, Any]:
    """Take a stream apart; without its `done` it has broken off."""
    said, by = "", ""
    for block in response.text.split("\n\n"):
        name, _, data = block.removeprefix("event: ").partition("\ndata: ")
        if name == "delta":
            said += json.loads(data)["text"]
        elif name == "done":
            by = json.loads(data)["answered_by"]
    if not said or not by:
        raise ValueError("a stream that broke off")
    return by, said
