"""The library's own wires and prices against the invoice of the server, provider by provider."""

from __future__ import annotations

from decimal import Decimal

import pytest

from llm_common.pricing import cost_of, price_of
from llm_common.providers import ChatRequest
from llm_common.providers.select import aclose, provider_for
from llm_common.routing.plan import plan
from llm_common.routing.registry import load_registry
from llm_common.testing import Answer, ProviderServer
from llm_common.types import Usage

MODELS = {
    "openai": "gpt-4o",
    "openrouter": "gpt-4o",
    "anthropic": "claude-sonnet-4.5",
    "gemini": "gemini-2.5-flash",
    "zai": "glm-4.5",
    "groq": "llama-3.3-70b-versatile",
    "mistral": "mistral-large-latest",
    "deepseek": "deepseek-chat",
    "offline": "extractive",
}
ASK = [{"role": "user", "content": "The river rose by two feet overnight, says the county clerk."}]


@pytest.mark.parametrize("provider", MODELS)
async def test_what_the_library_counts_is_what_the_provider_charges(provider):
    usage = Usage(input_tokens=1000, output_tokens=70, cached_input_tokens=300)
    async with ProviderServer() as server:
        [deployment] = plan(
            load_registry(),
            provider=provider,
            model=MODELS[provider],
            environ=server.environment(),
        )
        server.script(Answer(text="Two feet.", usage=usage))
        wire = provider_for(deployment)
        reply = await wire.send(deployment, ChatRequest(ASK, max_tokens=100), timeout_s=60)
        await aclose()
        assert reply.text == "Two feet."
        assert reply.usage == usage
        price = price_of(provider, deployment.model.id)
        cost = cost_of(reply.usage, price, reply.cost_usd)
        assert cost.usd == server.invoice.total_usd > Decimal(0)
