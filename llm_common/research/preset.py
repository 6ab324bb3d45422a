"""What every preset does with its queries: search, order, summarise."""

from __future__ import annotations

from collections.abc import Sequence

from ..llm_client import LLMClient
from ..search.ranking import official_first
from .models import Query, Research
from .searching import Searcher
from .summary import excerpt, summarize


async def researched(
    searcher: Searcher, llm: LLMClient | None, subject: str, queries: Sequence[Query]
) -> Research:
    """Run the queries and summarise what they found."""
    results, outcomes = await searcher.run(queries, official_first)
    if llm is not None and results:
        with searcher.labelled(llm.cost_tracker):
            statements, by = await summarize(llm, subject, results)
    else:
        statements, by = excerpt(subject, results), "extract"
    return Research(
        subject=subject,
        results=tuple(results),
        queries=tuple(outcomes),
        statements=tuple(statements),
        summarized_by=by,
    )
