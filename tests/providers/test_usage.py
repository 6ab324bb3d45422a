"""Token counts mean the same, wherever a provider writes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.providers.usage import cost_reported, usage_of
from llm_common.types import Usage


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ({"prompt_tokens": 5}, Usage(input_tokens=5)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
            Usage(input_tokens=9, output_tokens=2, cached_input_tokens=4),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "num_cached_tokens": 3},
            Usage(input_tokens=9, output_tokens=2, cached_input_tokens=3),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 6,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            Usage(
                input_tokens=9,
                output_tokens=6,
                cached_input_tokens=2,
                cache_write_tokens=3,
                reasoning_tokens=4,
            ),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": None},
            Usage(input_tokens=9, output_tokens=1),
        ),
    ],
)
def test_usage_is_read(raw: Any, expected: Usage | None) -> None:
    assert usage_of(raw) == expected


COUNTS = st.integers(-5, 1000) | st.none() | st.text(max_size=3)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_parts_are_never_more_than_the_whole(
    prompt: Any, completion: Any, cached: Any, written: Any, reasoning: Any
) -> None:
    usage = usage_of(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    assert usage is not None
    assert 0 <= usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert 0 <= usage.reasoning_tokens <= usage.output_tokens


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({"prompt_tokens": 1}, None),
        ({"cost": Decimal("0.00183")}, Decimal("0.00183")),
        ({"cost": 0}, Decimal(0)),
        ({"cost": "free"}, None),
        # A key of one's own: OpenRouter's fee and the vendor's bill.
        (
            {
                "cost": Decimal("0.0001"),
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": Decimal("0.002")},
            },
            Decimal("0.0021"),
        ),
        ({"cost": Decimal("0.0001"), "is_byok": True}, None),
    ],
)
def test_openrouter_says_what_it_charged(raw: Any, expected: Decimal | None) -> None:
    assert cost_reported("openrouter", raw) == expected
