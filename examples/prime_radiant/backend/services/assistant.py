"""The assistant by llm_common: it remembers, and knows the page that the user looks at."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from llm_common import ConversationMemory, CostTracker, LLMClient
from llm_common.errors import DatabaseError

from ..models import Piece, Turn

logger = logging.getLogger("prime_radiant.assistant")

PROJECT = "prime-radiant-ai"
MODEL = "gpt-4o"
SYSTEM_PROMPT = (
    "You are a careful assistant for personal finance. Explain in plain words. "
    "Say when a question needs a professional."
)
PAGES = {
    "portfolio": "The page lists the user's holdings with their weights, costs and returns.",
    "tax": "The page shows realised gains and losses of this year and the tax estimated on them.",
}


class Assistant:
    """Answers users, over the database that the environment names."""

    def __init__(self) -> None:
        self.costs = CostTracker(
            project=PROJECT,
            daily_budget_usd=os.getenv("DAILY_BUDGET_USD", "10"),
            monthly_budget_usd=os.getenv("MONTHLY_BUDGET_USD", "300"),
        )
        self._llm = LLMClient("openrouter", model=MODEL, cost_tracker=self.costs)

    async def answer(self, turn: Turn) -> Piece:
        """Answer at once."""
        text = await self._llm.chat(await self._messages(turn), user=turn.user_id)
        return Piece(text=text, answered_by="llm_common")

    async def stream(self, turn: Turn) -> AsyncGenerator[Piece]:
        """Answer piece by piece."""
        messages = await self._messages(turn)
        async with self._llm.stream(messages, user=turn.user_id) as deltas:
            async for delta in deltas:
                if delta.text:
                    yield Piece(text=delta.text, answered_by="llm_common")

    async def history(self, user_id: str) -> list[dict[str, Any]]:
        """Return what was said last, oldest first."""
        return await self._memory(user_id).get_context()

    async def remember(self, turn: Turn, answer: str) -> None:
        """Keep a turn with its answer; if that fails, the user still has the answer."""
        memory = self._memory(turn.user_id)
        try:
            await memory.save_message("user", turn.message, turn.page)
            await memory.save_message("assistant", answer, turn.page)
        except DatabaseError:
            logger.exception("a turn was not kept")

    async def _messages(self, turn: Turn) -> list[dict[str, Any]]:
        system = " ".join(filter(None, (SYSTEM_PROMPT, PAGES.get(turn.page or ""))))
        return [
            {"role": "system", "content": system},
            *await self._memory(turn.user_id).get_context(page=turn.page),
            {"role": "user", "content": turn.message},
        ]

    def _memory(self, user_id: str) -> ConversationMemory:
        return ConversationMemory(db_client=self.costs.db, user_id=user_id, project=PROJECT)


@asynccontextmanager
async def open_assistant() -> AsyncGenerator[Assistant]:
    """Lend this process's assistant."""
    assistant = Assistant()
    try:
        yield assistant
    finally:
        await assistant.costs.aclose()
