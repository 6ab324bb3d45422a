"""OpenAI's format, read by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from llm_common.errors import InvalidInputError
from llm_common.testing import Answer, Fault, ProviderServer, RecordedRequest
from llm_common.types import Usage

MATERIAL = (
    "The committee met on Tuesday to hear about the water works of the county. "
    "Its members agreed that forty miles of pipe must be replaced before the winter. "
    "The treasurer warned that the county can pay for half of that at most."
)
ASK = [{"role": "user", "content": MATERIAL}]
TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "parameters": {"type": "object", "properties": {"quote": {"type": "string"}}},
    },
}


@pytest.fixture
async def client(server: ProviderServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = server.base_url("openai")
    async with openai.AsyncOpenAI(api_key="k-1", base_url=url, max_retries=0) as made:
        yield made


async def ask(client: openai.AsyncOpenAI, **extra: Any) -> Any:
    return await client.chat.completions.create(model="gpt-4o", messages=ASK, **extra)


async def collect(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_the_default_answer_is_made_of_the_prompt(client, server):
    reply = await ask(client)
    text = reply.choices[0].message.content
    assert text
    assert all(f"{sentence}." in MATERIAL for sentence in text.rstrip(".").split(". "))
    assert reply.model == "gpt-4o"
    assert reply.usage.prompt_tokens == -(-len(MATERIAL) // 4)
    assert reply.usage.completion_tokens == -(-len(text) // 4)


async def test_the_invoice_is_the_sum_done_by_hand(client, server):
    usage = Usage(input_tokens=1000, output_tokens=10, cached_input_tokens=400)
    server.script(Answer(text="Yes.", usage=usage))
    reply = await ask(client)
    assert reply.usage.prompt_tokens_details.cached_tokens == 400
    assert server.invoice.total_usd == Decimal("0.0021")  # 600 plain + 400 cached + 10 out
    [line] = server.invoice.lines
    assert reply.id == f"chatcmpl-{line.request_id}"


async def test_a_model_without_a_price_is_unpriced_not_free(client, server):
    server.script(Answer(text="Yes.", model="nobody-knows-it"))
    await client.chat.completions.create(model="nor-this", messages=ASK)
    assert server.invoice.unpriced == 1


async def test_a_stream_says_what_the_whole_answer_says(client, server):
    whole = (await ask(client)).choices[0].message.content
    chunks = await collect(await ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.usage is not None for c in chunks] == [False] * (len(chunks) - 1) + [True]
    first, second = server.invoice.lines
    assert first.amount == second.amount


async def test_a_stream_names_usage_only_if_asked(client):
    assert all(c.usage is None for c in await collect(await ask(client, stream=True)))


async def test_the_only_tool_is_called_and_then_answered(client):
    reply = await ask(client, tools=[TOOL])
    [call] = reply.choices[0].message.tool_calls
    assert reply.choices[0].finish_reason == "tool_calls"
    assert json.loads(call.function.arguments)["quote"] in MATERIAL

    result = {"role": "tool", "tool_call_id": call.id, "content": "noted"}
    turns = [*ASK, reply.choices[0].message.model_dump(), result]
    after = await client.chat.completions.create(model="gpt-4o", messages=turns, tools=[TOOL])
    assert after.choices[0].message.content
    assert not after.choices[0].message.tool_calls


async def test_a_streamed_tool_call_comes_in_pieces(client):
    chunks = await collect(await ask(client, tools=[TOOL], tool_choice="required", stream=True))
    calls = [d for c in chunks if (d := c.choices[0].delta.tool_calls)]
    assert calls[0][0].function.name == "note"
    arguments = "".join(piece[0].function.arguments for piece in calls)
    assert json.loads(arguments)["quote"] in MATERIAL


async def test_scripted_answers_come_in_order_and_only_to_whom_they_match(client, server):
    server.script(Answer(text="embedding only"), match="embeddings")
    server.script(
        Answer(text="one"), Answer(text="two"), match=lambda r: r.body["model"] == "gpt-4o"
    )
    texts = [(await ask(client)).choices[0].message.content for _ in range(3)]
    assert texts[:2] == ["one", "two"]
    assert texts[2] in MATERIAL
    assert server.unused == 1


async def test_a_scripted_object_takes_the_form_that_was_asked_for(client, server):
    server.script(Answer(json={"quote": "a"}), Answer(json={"quote": "a"}))
    told = await ask(client)
    called = await ask(client, tools=[TOOL])
    assert json.loads(told.choices[0].message.content) == {"quote": "a"}
    arguments = called.choices[0].message.tool_calls[0].function.arguments
    assert json.loads(arguments) == {"quote": "a"}


async def test_max_tokens_cuts_and_says_so(client, server):
    reply = await ask(client, max_tokens=5)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.completion_tokens == 5


async def test_a_refusal(client, server):
    server.script(Answer(refusal="I can't help with that."))
    choice = (await ask(client)).choices[0]
    assert choice.finish_reason == "content_filter"
    assert choice.message.refusal == "I can't help with that."
    assert choice.message.content is None


async def test_usage_can_be_left_out_of_answers_and_is_charged(client, server):
    server.script(Answer(text="a", report_usage=False))
    assert (await ask(client)).usage is None
    assert server.invoice.total_usd > 0


async def test_openrouter_names_what_it_charged(server):
    url = server.base_url("openrouter")
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        reply = await client.chat.completions.create(model="some/model", messages=ASK)
    assert Decimal(str(reply.usage.cost)) == server.invoice.total_usd


async def test_embeddings_are_near_for_common_words(client, server):
    reply = await client.embeddings.create(
        model="text-embedding-3-small", input=["red apples grow", "red apples fall", "a bus"]
    )
    first, second, third = (item.embedding for item in reply.data)
    assert len(first) == 1536
    assert sum(a * b for a, b in zip(first, second, strict=True)) > 0.5
    assert sum(a * b for a, b in zip(first, third, strict=True)) == 0
    assert server.invoice.total_usd == reply.usage.prompt_tokens * Decimal("0.00000002")


FREE = [
    (Fault.rate_limit(0.25), openai.RateLimitError),
    (Fault.status(500), openai.InternalServerError),
    (Fault.status(401), openai.AuthenticationError),
    (Fault.status(404), openai.NotFoundError),
    (Fault.context_length(), openai.BadRequestError),
]


@pytest.mark.parametrize(("fault", "error"), FREE, ids=lambda v: getattr(v, "__name__", None))
async def test_errors_are_what_the_client_expects_and_charge_nothing(client, server, fault, error):
    server.script(fault)
    with pytest.raises(error) as caught:
        await ask(client)
    assert caught.value.status_code == fault.http_status
    assert server.invoice.lines == []
    if fault.retry_after_s:
        assert caught.value.response.headers["retry-after"] == "0.25"


async def test_a_web_page_in_place_of_json_charges_nothing(client, server):
    server.script(Fault.html())
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4o", messages=ASK)
    assert raw.headers["content-type"] == "text/html"
    assert server.invoice.lines == []


@pytest.mark.parametrize(
    "fault",
    [Fault.timeout(0.05), Fault.disconnect(), Fault.disconnect(1), Fault.malformed_json()],
    ids=["timeout", "no answer", "half an answer", "malformed"],
)
async def test_lost_answers_are_charged_like_good_ones(client, server, fault, caplog):
    server.script(fault)
    with pytest.raises((openai.APIConnectionError, json.JSONDecodeError)):
        await ask(client)
    await ask(client)
    lost, good = server.invoice.lines
    assert lost.amount == good.amount
    assert good.amount > 0
    assert [r for r in caplog.records if r.name.startswith("aiohttp")] == []


async def test_a_stream_that_its_client_abandons_is_charged_whole(client, server, caplog):
    server.script(Answer(text="word " * 500_000))
    stream = await ask(client, stream=True)
    await anext(stream)
    await stream.close()
    await ask(client)
    assert server.invoice.lines[0].usage.output_tokens == 625_000
    assert [r for r in caplog.records if r.name.startswith("aiohttp")] == []


async def test_an_unknown_provider_is_named(server):
    with pytest.raises(InvalidInputError, match="no fake of 'acme': use openai, "):
        server.base_url("acme")


async def test_an_empty_answer_names_the_usage_that_it_charges(client, server):
    server.script(Fault.empty())
    reply = await ask(client)
    assert reply.choices[0].message.content == ""
    assert reply.usage.completion_tokens == server.invoice.lines[0].usage.output_tokens > 0


async def test_a_stream_breaks_off_after_the_chunks_that_were_named(client, server):
    server.script(Fault.disconnect(after_chunks=3))
    stream = await ask(client, stream=True)
    seen = [await anext(stream) for _ in range(3)]
    assert all(chunk.id == "chatcmpl-req-1" for chunk in seen)
    with pytest.raises(httpx.RemoteProtocolError):
        await anext(stream)
    assert len(server.invoice.lines) == 1


async def test_a_stream_with_a_broken_chunk(client, server):
    server.script(Fault.malformed_json())
    with pytest.raises(json.JSONDecodeError):
        await collect(await ask(client, stream=True))


async def test_without_a_key_or_messages_nothing_is_charged(client, server):
    url = f"{server.base_url('openai')}/chat/completions"
    async with httpx.AsyncClient(timeout=60) as plain:
        assert (await plain.post(url, json={"messages": []})).status_code == 401
        key = {"authorization": "Bearer k"}
        assert (await plain.post(url, json={"no": "messages"}, headers=key)).status_code == 400
        assert (await plain.post(url, content="{", headers=key)).status_code == 400
    assert server.invoice.lines == []


async def test_requests_are_kept_whole_but_their_repr_hides_the_key(client, server):
    await ask(client)
    [request] = server.requests
    assert request.headers["authorization"] == "Bearer k-1"
    assert "k-1" not in repr(request)
    assert request.body["messages"] == ASK
    assert (request.provider, request.model) == ("openai", "gpt-4o")


async def test_latency_is_per_server_and_per_answer(client, server):
    server.script(Answer(text="slow", latency_s=0.2), Answer(text="fast"))
    begun = time.monotonic()
    await ask(client)
    assert time.monotonic() - begun >= 0.2
    server.latency_s = 0.15
    begun = time.monotonic()
    await ask(client)
    assert time.monotonic() - begun >= 0.15


async def test_closing_does_not_wait_for_answers_that_are_held_back(client, server):
    server.script(Fault.timeout(60))
    waiting = asyncio.create_task(ask(client))
    while not server.requests:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await server.aclose()
        with pytest.raises(openai.APIConnectionError):
            await waiting


async def test_a_model_of_the_callers_answers_after_the_script_and_before_the_default():
    def model(request: RecordedRequest) -> Answer | None:
        return Answer(text="Forty miles.") if "pipe" in str(request.body) else None

    async with (
        ProviderServer(respond=model) as server,
        openai.AsyncOpenAI(
            api_key="k-1", base_url=server.base_url("openai"), max_retries=0
        ) as client,
    ):
        server.script(Answer(text="Scripted."))
        said = [(await ask(client)).choices[0].message.content for _ in range(2)]
        other = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "The river rose."}]
        )
    assert said == ["Scripted.", "Forty miles."]
    assert other.choices[0].message.content == "The river rose."
    assert server.invoice.lines[1].usage.output_tokens == 3
