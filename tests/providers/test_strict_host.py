"""A host that makes errors of warnings, after the library was imported."""

from __future__ import annotations

from tests import children
from tests.wire.replay import answer, serving

ANTHROPIC = {
    "id": "c1",
    "type": "message",
    "role": "assistant",
    "model": "served-model",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 3},
}
HOST = """
import asyncio, os, warnings
import litellm
from llm_common.providers import ChatRequest
from llm_common.providers.litellm_wire import LiteLLMWire
from llm_common.routing import load_registry, plan

warnings.resetwarnings()
warnings.simplefilter("error")


async def main():
    wire = LiteLLMWire()
    (deployment,) = plan(load_registry(), provider="anthropic", model="claude-haiku-4.5")
    request = ChatRequest([{"role": "user", "content": "Say hello."}], max_tokens=50)
    print((await wire.send(deployment, request, timeout_s=30)).text)
    await wire.aclose()


asyncio.run(main())
"""


async def test_a_request_is_sent_where_warnings_are_errors() -> None:
    async with serving(answer(ANTHROPIC)) as server:
        environment = {"ANTHROPIC_API_KEY": "sk-1", "ANTHROPIC_BASE_URL": server.url}
        assert await children.run(HOST, **environment) == "Hello."
