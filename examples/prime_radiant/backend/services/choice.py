"""Which code answers a user, as long as there are two. Goes with the old client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal
from functools import partial

from llm_common import Rollout
from llm_common.rollout import Guardrails

from ..llm.client import PrimeLLMClient, estimate_tokens
from ..models import Piece, Turn
from .assistant import PROJECT, Assistant

FLAG = "chat"

# What gpt-4-turbo costs, USD per token; the old client does not count money.
INPUT_USD, OUTPUT_USD = Decimal("0.00001"), Decimal("0.00003")

# The new code sends more of the conversation along: what it remembers outlives the process.
COST_RATIO = 4.0


class ChosenAssistant(Assistant):
    """The new assistant for some users, the old client for the others."""

    def __init__(self, client: PrimeLLMClient) -> None:
        super().__init__()
        self._client = client
        self.rollout = Rollout(
            FLAG, db=self.costs.db, project=PROJECT, guardrails=Guardrails(cost_ratio=COST_RATIO)
        )

    async def answer(self, turn: Turn) -> Piece:
        """Answer at once, by the code that is this user's."""
        new = partial(super().answer, turn)
        old = partial(self._old, turn)
        return await self.rollout.run(
            turn.user_id, old=old, new=new, old_cost=lambda _: self._cost(turn)
        )

    async def stream(self, turn: Turn) -> AsyncGenerator[Piece]:
        """Answer piece by piece, by the code that is this user's."""
        new = partial(super().stream, turn)
        old = partial(self._old_stream, turn)
        pieces = self.rollout.stream(
            turn.user_id, old=old, new=new, old_cost=lambda _: self._cost(turn)
        )
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _old(self, turn: Turn) -> Piece:
        result = await self._client.chat(turn.user_id, turn.message)
        return Piece(text=result.text, answered_by="old client")

    async def _old_stream(self, turn: Turn) -> AsyncGenerator[Piece]:
        async with aclosing(self._client.chat_stream(turn.user_id, turn.message)) as pieces:
            async for piece in pieces:
                yield Piece(text=piece, answered_by="old client")

    def _cost(self, turn: Turn) -> Decimal:
        """Return about what the old client has spent on its last answer to a user, in USD."""
        said = [estimate_tokens(m.content) for m in self._client.store.get(turn.user_id)]
        return sum(said[:-1]) * INPUT_USD + sum(said[-1:]) * OUTPUT_USD


@asynccontextmanager
async def open_assistant() -> AsyncGenerator[Assistant]:
    """Lend this process's assistant, with a rollout between the old client and the new."""
    client = PrimeLLMClient()
    assistant = ChosenAssistant(client)
    try:
        async with assistant.rollout:
            yield assistant
    finally:
        await client.close()
        await assistant.costs.aclose()
