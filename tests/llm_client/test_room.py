"""What certainly does not fit is refused before anything is reserved, and nothing else is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common import CostTracker, LLMClient
from llm_common.errors import ContextLengthError
from llm_common.llm_client.room import least_tokens
from llm_common.testing import ProviderServer
from tests.support import data_dir

(LITELLM,) = find_spec("litellm").submodule_search_locations  # importing it takes seconds
FOLDER = Path(LITELLM) / "litellm_core_utils" / "tokenizers"
Count = Callable[[str], int]
Ledger = Callable[[], Awaitable[list[dict[str, Any]]]]

# gpt-4o holds 128,000 tokens; words of one letter are the fewest characters that are too many.
TOO_LONG = "a " * 128_001
JUST_FITS = "a " * 128_000


@pytest.fixture(scope="module")
def counts() -> Iterator[dict[str, Count]]:
    """The tokenizers that can be had without a network: OpenAI's and Anthropic's last one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(FOLDER))
        names = ("o200k_base", "cl100k_base", "p50k_base")
        found: dict[str, Count] = {}
        for name in names:
            encoding = tiktoken.get_encoding(name)
            found[name] = lambda text, e=encoding: len(e.encode(text, disallowed_special=()))
        claude = tokenizers.Tokenizer.from_file(str(FOLDER / "anthropic_tokenizer.json"))
        found["claude"] = lambda text: len(claude.encode(text).ids)
        yield found


def test_no_tokenizer_makes_fewer_tokens_of_real_text(counts: dict[str, Count]) -> None:
    bills = sorted(data_dir("bills").glob("*.xml"))
    assert len(bills) == 17
    for file in bills:
        text = file.read_text(encoding="utf-8", errors="replace")[:200_000]
        for name, count in counts.items():
            assert least_tokens(text) <= count(text), (file.name, name)


WORDS = ["a", "I", "the", "7", "2024", "é", "法", "😀", "'s", "x" * 40]
MARKS = ["-", "//", "*/", "_", "=", ".", '"', "\u200b", "\u0301"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\xa0", "\u3000", "\r\n", " " * 90]
pieces = st.sampled_from([*WORDS, *MARKS, *SPACES])


@settings(max_examples=300)
@given(st.lists(pieces, max_size=60).map("".join) | st.text(max_size=60))
def test_nor_of_any_text(counts: dict[str, Count], text: str) -> None:
    for name, count in counts.items():
        assert least_tokens(text) <= count(text), name


async def test_too_much_is_refused_before_anything_is_reserved(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs, budget_limit_usd="0.000001")
    messages = [{"role": "user", "content": TOO_LONG}]
    parts = [{"role": "user", "content": [{"type": "text", "text": TOO_LONG[:-4]}, "a a"]}]
    for asked in (messages, parts):
        with pytest.raises(ContextLengthError, match="128,001 tokens of input") as caught:
            await llm.chat(asked)
        assert caught.value.status is None
    with pytest.raises(ContextLengthError):
        llm.stream(messages)
    with pytest.raises(ContextLengthError):
        await LLMClient("openai", cost_tracker=costs).embed(
            ["short", "a " * 8_192], model="text-embedding-3-small"
        )
    assert fake.requests == []
    assert await ledger() == []


async def test_what_may_fit_is_the_providers_to_judge(
    fake: ProviderServer, costs: CostTracker
) -> None:
    llm = LLMClient("openai", model="gpt-4o", cost_tracker=costs)
    for text in (JUST_FITS, "x" * 1_000_000, "- " * 200_000):
        await llm.chat([{"role": "user", "content": text}], max_tokens=16_000)
    # Of a model of the host's own nothing is known.
    await llm.chat([{"role": "user", "content": TOO_LONG}], model="my-finetune")
    assert len(fake.requests) == 4
    texts = ["a " * 6_000] * 3
    await LLMClient("openai", cost_tracker=costs).embed(texts, model="text-embedding-3-small")


async def test_a_model_that_can_not_hold_it_is_left_out(
    fake: ProviderServer, costs: CostTracker, ledger: Ledger
) -> None:
    llm = LLMClient("openai", cost_tracker=costs)
    messages = [{"role": "user", "content": TOO_LONG}]
    await llm.chat_with_fallback(messages, models=["gpt-4o", "gpt-4.1", "gpt-4o-mini"])
    assert [r.model for r in fake.requests] == ["gpt-4.1"]
    assert [r["kind"] for r in await ledger()] == ["first"]
