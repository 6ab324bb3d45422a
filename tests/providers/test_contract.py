"""What every `Provider` promises, on both wires."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import warnings
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from aiohttp import web

from llm_common.errors import (
    AuthenticationError,
    BrokenResponseError,
    CallError,
    ContextLengthError,
    ModelNotFoundError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    QuotaExhaustedError,
    RateLimitedError,
)
from llm_common.providers import ChatRequest, Provider, Reply, aclose, provider_for
from llm_common.providers.litellm_wire import LiteLLMWire
from llm_common.providers.openai_wire import OpenAIWire
from llm_common.routing import Deployment, load_registry, plan
from llm_common.types import Usage
from tests.wire.replay import Replay, answer, serving

SECRET = "sk-very-secret"
PROMPT = "the quick brown prompt"
REQUEST = ChatRequest([{"role": "user", "content": PROMPT}], max_tokens=50, temperature=0.5)

OPENAI = {
    "id": "c1",
    "model": "served-model",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
    },
}
ANTHROPIC = {
    "id": "c1",
    "type": "message",
    "role": "assistant",
    "model": "served-model",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 3,
        "cache_read_input_tokens": 8,
        "cache_creation_input_tokens": 2,
    },
}
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
OPENAI_CALL = {
    "finish_reason": "tool_calls",
    "message": {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
}
ANTHROPIC_CALL = {
    "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}],
    "stop_reason": "tool_use",
}


class ProviderContract:
    """Runs on each wire with a server that speaks its provider's format."""

    good: ClassVar[dict[str, Any]]
    tool_call: ClassVar[dict[str, Any]]
    usage: Usage

    def make(self) -> Provider:
        raise NotImplementedError

    def deployment(self, url: str, key: str = SECRET) -> Deployment:
        raise NotImplementedError

    @pytest.fixture
    async def wire(self) -> AsyncIterator[Provider]:
        wire = self.make()
        yield wire
        await wire.aclose()

    async def send(self, wire: Provider, server: Replay, **options: Any) -> Reply:
        return await wire.send(
            self.deployment(server.url), REQUEST, **{"timeout_s": 20.0, **options}
        )

    async def fail(self, wire: Provider, respond: Any, **options: Any) -> tuple[CallError, Replay]:
        async with serving(respond) as server:
            with pytest.raises(CallError) as caught:
                await self.send(wire, server, **options)
        error = caught.value
        shown = f"{error!r} {error}"
        assert SECRET not in shown
        assert PROMPT not in shown
        assert error.provider == self.deployment("x").provider
        assert error.model == self.deployment("x").model.id
        return error, server

    async def test_an_answer_is_read(self, wire: Provider) -> None:
        async with serving(answer(self.good)) as server:
            reply = await self.send(wire, server)
        assert (reply.text, reply.finish_reason) == ("Hello.", "stop")
        assert reply.usage == self.usage
        assert reply.message["content"] == "Hello."
        assert reply.model
        assert len(server.requests) == 1
        assert server.requests[0]["max_tokens"] == 50
        assert server.requests[0]["temperature"] == 0.5

    async def test_a_tool_call_is_read(self, wire: Provider) -> None:
        request = ChatRequest([{"role": "user", "content": "x"}], 50, tools=(TOOL,))
        async with serving(answer(self.tool_call)) as server:
            reply = await wire.send(self.deployment(server.url), request, timeout_s=20)
        assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [
            ("t1", "look", "{}")
        ]
        assert reply.finish_reason == "tool_calls"
        assert server.requests[0]["tools"]

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (401, AuthenticationError),
            (403, AuthenticationError),
            (404, ModelNotFoundError),
            (429, RateLimitedError),
            (500, ProviderUnavailableError),
            (503, ProviderUnavailableError),
            (529, ProviderUnavailableError),
        ],
    )
    async def test_a_status_has_a_type(
        self, wire: Provider, status: int, expected: type[CallError]
    ) -> None:
        body = {"error": {"type": "x", "message": f"you said: {PROMPT}, key {SECRET}"}}
        error, server = await self.fail(wire, answer(body, status))
        assert type(error) is expected
        assert error.billed is False
        assert error.status in (status, 500)  # litellm reports 529 as 500
        assert len(server.requests) == 1

    async def test_nothing_that_was_said_is_logged(
        self, wire: Provider, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for status in (400, 401, 429, 500):
            body = {"error": {"type": "x", "message": f"you said: {PROMPT}, key {SECRET}"}}
            await self.fail(wire, answer(body, status))
        await asyncio.sleep(0.1)  # litellm logs in tasks of its own
        assert SECRET not in caplog.text
        assert PROMPT not in caplog.text

    async def test_too_long_an_input_has_a_type(self, wire: Provider) -> None:
        body = {
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens"}
        }
        error, _ = await self.fail(wire, answer(body, 400))
        assert type(error) is ContextLengthError

    async def test_retry_after_is_told(self, wire: Provider) -> None:
        body = {"error": {"type": "rate_limit_error", "message": "slow down"}}
        error, _ = await self.fail(wire, answer(body, 429, {"Retry-After": "7"}))
        assert error.retry_after_s == 7.0

    async def test_an_unreachable_server_is_unbilled(self, wire: Provider) -> None:
        async with serving(answer({})) as server:
            url = server.url
        with pytest.raises(ProviderUnavailableError) as caught:
            await wire.send(self.deployment(url), REQUEST, timeout_s=20)
        assert (caught.value.billed, caught.value.status) == (False, None)

    async def test_a_slow_server_times_out_and_may_have_billed(self, wire: Provider) -> None:
        async def slow(_: web.Request) -> web.Response:
            await asyncio.sleep(30)
            return web.Response()

        error, server = await self.fail(wire, slow, timeout_s=3)
        assert type(error) is ProviderTimeoutError
        assert error.billed is None
        assert len(server.requests) == 1

    async def test_a_connection_lost_in_mid_call_is_not_sent_again(self, wire: Provider) -> None:
        async def hang_up(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        error, server = await self.fail(wire, hang_up)
        assert type(error) is BrokenResponseError
        assert error.billed is None
        assert len(server.requests) == 1

    async def test_an_answer_that_is_not_json_is_broken(self, wire: Provider) -> None:
        error, _ = await self.fail(wire, answer('{"choices": [{"mess'))
        assert type(error) is BrokenResponseError
        assert error.billed is None

    async def test_cancelling_cancels(self, wire: Provider) -> None:
        started = asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            started.set()
            await asyncio.sleep(30)
            return web.Response()

        async with serving(slow) as server:
            task = asyncio.create_task(self.send(wire, server))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def test_keys_are_kept_apart(self, wire: Provider) -> None:
        async with serving(answer(self.good)) as server:
            for key in ("sk-one", "sk-two", "sk-one"):
                await wire.send(self.deployment(server.url, key), REQUEST, timeout_s=20)
        sent = ["sk-two" in str(headers) for headers in server.headers]
        assert sent == [False, True, False]

    async def test_it_works_again_after_closing(self, wire: Provider) -> None:
        async with serving(answer(self.good)) as server:
            await self.send(wire, server)
            await wire.aclose()
            await wire.aclose()
            assert (await self.send(wire, server)).text == "Hello."

    def test_it_serves_one_event_loop_after_another(self) -> None:
        wire = self.make()

        async def once() -> str:
            async with serving(answer(self.good)) as server:
                reply = await self.send(wire, server)
            await wire.aclose()
            return reply.text

        assert [asyncio.run(once()) for _ in range(2)] == ["Hello.", "Hello."]
        gc.collect()


class TestOpenAIWire(ProviderContract):
    good: ClassVar = OPENAI
    tool_call: ClassVar = {**OPENAI, "choices": [OPENAI_CALL]}
    usage = Usage(input_tokens=20, output_tokens=3, cached_input_tokens=8)

    def make(self) -> Provider:
        return OpenAIWire()

    def deployment(self, url: str, key: str = SECRET) -> Deployment:
        return plan(load_registry(), provider="openai", model="gpt-4o", api_key=key, base_url=url)[
            0
        ]

    async def test_a_spent_quota_has_a_type(self, wire: Provider) -> None:
        body = {"error": {"code": "insufficient_quota", "message": "…"}}
        error, _ = await self.fail(wire, answer(body, 429))
        assert type(error) is QuotaExhaustedError

    async def test_an_error_with_status_200_has_a_type(self, wire: Provider) -> None:
        error, _ = await self.fail(wire, answer({"error": {"code": "1113", "message": "…"}}))
        assert type(error) is QuotaExhaustedError

    async def test_another_format_is_broken(self, wire: Provider) -> None:
        for body in ([], {}, {"choices": []}, {"choices": [{}]}, "null"):
            error, _ = await self.fail(wire, answer(body))
            assert type(error) is BrokenResponseError

    async def test_reasoning_models_get_the_arguments_they_know(self, wire: Provider) -> None:
        async with serving(answer(self.good)) as server:
            (deployment,) = plan(
                load_registry(),
                provider="openai",
                model="gpt-5-mini",
                api_key=SECRET,
                base_url=server.url,
            )
            await wire.send(deployment, REQUEST, timeout_s=20)
        sent = server.requests[0]
        assert sent["max_completion_tokens"] == 50
        assert "max_tokens" not in sent
        assert "temperature" not in sent

    async def test_openai_labels_are_not_told_to_others(
        self, wire: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
        async with serving(answer(self.good)) as server:
            (deployment,) = plan(
                load_registry(),
                provider="zai",
                model="glm-4.6",
                api_key=SECRET,
                base_url=server.url,
            )
            await wire.send(deployment, REQUEST, timeout_s=20)
        assert "mine" not in str(server.headers[0])


class TestLiteLLMWire(ProviderContract):
    good: ClassVar = ANTHROPIC
    tool_call: ClassVar = {**ANTHROPIC, **ANTHROPIC_CALL}
    usage = Usage(input_tokens=20, output_tokens=3, cached_input_tokens=8, cache_write_tokens=2)

    def make(self) -> Provider:
        return LiteLLMWire()

    def deployment(self, url: str, key: str = SECRET) -> Deployment:
        return plan(
            load_registry(),
            provider="anthropic",
            model="claude-haiku-4.5",
            api_key=key,
            base_url=url,
        )[0]

    async def test_closing_leaves_no_hook_in_litellm(self, wire: Provider) -> None:
        import litellm

        hooks = (
            litellm.success_callback,
            litellm.failure_callback,
            litellm._async_success_callback,
            litellm._async_failure_callback,
        )
        async with serving(answer(self.good)) as server:
            await self.send(wire, server)
            await wire.aclose()
            once = [len(each) for each in hooks]
            for _ in range(3):
                await self.send(wire, server)
                await wire.aclose()
        assert [len(each) for each in hooks] == once


async def test_the_registry_chooses_the_wire() -> None:
    openai, anthropic = TestOpenAIWire(), TestLiteLLMWire()
    assert isinstance(provider_for(openai.deployment("http://x")), OpenAIWire)
    assert isinstance(provider_for(anthropic.deployment("http://x")), LiteLLMWire)
    assert provider_for(openai.deployment("http://x")) is provider_for(
        openai.deployment("http://y")
    )
    await aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
async def test_a_forked_child_opens_connections_of_its_own() -> None:
    wire, contract = OpenAIWire(), TestOpenAIWire()
    async with serving(answer(OPENAI)) as server:
        await contract.send(wire, server)
        with warnings.catch_warnings():  # newer Pythons warn of forks beside threads
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(0 if _sends_on_its_own(wire, contract, server) else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert (await contract.send(wire, server)).text == "Hello."
        assert len(server.requests) == 3
    await wire.aclose()


def _sends_on_its_own(wire: OpenAIWire, contract: TestOpenAIWire, server: Replay) -> bool:
    """In the child: a new event loop, the parent's wire."""
    answered: list[str] = []

    async def once() -> None:
        answered.append((await contract.send(wire, server)).text)
        await wire.aclose()

    def run() -> None:
        with asyncio.Runner() as runner:
            runner.run(once())

    # The parent's loop counts as running in this thread.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return answered == ["Hello."]
