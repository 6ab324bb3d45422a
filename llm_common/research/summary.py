"""A summary that cites: every statement has a source and a quote, compared in code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from pydantic import BaseModel, Field

from ..evidence import Passages
from ..llm_client import LLMClient
from ..prompts import shipped
from ..search import SearchResult
from .models import Statement
from .searching import text_of

SOURCES = 20
"""Results that a summary is made from."""
STATEMENTS = 8
MAX_TOKENS = 1_500
EXCERPT_CHARS = 2_000
"""Of each source that a model is shown."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9“\"])")
_WORD = re.compile(r"\w{3,}")
_CLOSING = re.compile(r"</(\s*source)", re.IGNORECASE)
_PROMPT = shipped("research_summary", "1")


class DraftStatement(BaseModel):
    """What a model writes: one sentence, the number of its source, and that source's words."""

    text: str
    source: int
    quote: str


class DraftSummary(BaseModel):
    """The sentences of a summary, in the order of reading."""

    statements: list[DraftStatement] = Field(max_length=STATEMENTS * 2)


async def summarize(
    llm: LLMClient, subject: str, results: Sequence[SearchResult]
) -> tuple[list[Statement], str]:
    """Let a model write the summary; return it with the model that did.

    Raises:
        BudgetError, CallError, ResponseValidationError: as `LLMClient.complete`.
    """
    sources = list(results[:SOURCES])
    prompt = _PROMPT.render(
        subject=subject,
        count=str(STATEMENTS),
        material="\n\n".join(_tagged(result) for result in sources),
    )
    response = await llm.complete(
        [{"role": "user", "content": prompt}],
        None,
        DraftSummary,
        step="research_summary",
        prompt=_PROMPT,
        max_tokens=MAX_TOKENS,
    )
    drafts = response.parsed.statements if response.parsed else []
    return [_checked(draft, sources) for draft in drafts], response.model


def excerpt(subject: str, results: Sequence[SearchResult]) -> list[Statement]:
    """Take from each of the first results the sentence that says most about the subject. Pure."""
    wanted = {word.casefold() for word in _WORD.findall(subject)}
    statements: list[Statement] = []
    for result in results[:STATEMENTS]:
        sentences = [s.strip() for s in _SENTENCE.split(text_of(result)) if s.strip()]
        if not sentences:
            continue
        best = max(sentences, key=lambda sentence: _shared(sentence, wanted))
        statements.append(Statement(text=best, source=result.rank, quote=best, verdict="verified"))
    return statements


def _checked(draft: DraftStatement, sources: Sequence[SearchResult]) -> Statement:
    named = [each for each in sources if each.rank == draft.source]
    for result in named:
        verdict = Passages(f"{result.title}\n{text_of(result)}").verify(draft.quote)
        return Statement(
            text=draft.text, source=draft.source, quote=verdict.quote, verdict=verdict.status
        )
    return Statement(text=draft.text, source=draft.source, quote=draft.quote, verdict="unverified")


def _shared(sentence: str, wanted: set[str]) -> int:
    return len(wanted & {word.casefold() for word in _WORD.findall(sentence)})


def _tagged(result: SearchResult) -> str:
    """Mark a source; it can't close its own mark."""
    text = _CLOSING.sub(r"< /\1", text_of(result)[:EXCERPT_CHARS])
    head = f'<source id="{result.rank}" title="{escape(result.title)}" url="{escape(result.url)}">'
    return f"{head}\n{text}\n</source>"
