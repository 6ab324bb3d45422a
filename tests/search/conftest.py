"""What the engines of these tests can find."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from llm_common.testing import CorpusDocument

WORDS = "The shelter tax of Kern county pays for beds"


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


@pytest.fixture
def corpus() -> Sequence[CorpusDocument]:
    return [
        CorpusDocument("Shelter tax note", "https://leg.kern.gov/note", f"{WORDS}.", days_ago(3)),
        CorpusDocument(
            "Shelter tax news", "https://news.example/tax", f"{WORDS} now.", days_ago(20)
        ),
        CorpusDocument(
            "Shelter tax past", "https://old.example/tax", f"{WORDS} then.", days_ago(900)
        ),
    ]
