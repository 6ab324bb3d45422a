"""What a job would do and could cost, before anything is paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

from ..errors import InvalidInputError
from ..pricing import price_of, upper_bound_nano
from ..search import SearchEngine
from .enricher import ModelEnricher
from .fitting import BYTES_PER_TOKEN
from .interfaces import LLMEnricher
from .models import EnrichmentRequest, PipelineConfig
from .queries import queries_for
from .row_ids import check_keys, identified

SNIPPET_TOKENS = 120
"""A title and a snippet, about."""
PAGE_TOKENS = 2_500
"""A page after pruning, about: what the contact pages of the test material have in the mean."""
SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would do.

    Attributes:
        rows: that would be enriched.
        skipped: rows with a problem: number in the table, and what it is.
        queries: what would be asked for the first rows.
        searches: of the first round, over all rows.
        likely_usd: if one round of snippets and pages is enough for each row; None where a price
            is unknown. It counts input at the size of usual pages and output at its limit.
        most_usd: if every row needs every round; a job's budget holds whatever this says.
    """

    rows: int
    skipped: tuple[tuple[int, str], ...]
    queries: tuple[str, ...]
    searches: int
    likely_usd: Decimal | None
    most_usd: Decimal | None


def estimate(
    rows: Iterable[Mapping[str, Any]],
    request: EnrichmentRequest,
    config: PipelineConfig,
    enricher: LLMEnricher,
    engine: SearchEngine,
) -> Estimate:
    """Read a table and say what enriching it would come to.

    Raises:
        InvalidInputError: a key column is missing, or there is no row.
    """
    count, skipped, queries = 0, list[tuple[int, str]](), set[str]()
    sample: dict[str, None] = {}
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        raise InvalidInputError("the table has no rows: there is nothing to enrich")
    check_keys(list(first), request.keys)
    for row in identified(([one] for one in chain([first], iterator)), request.keys):
        if row.problem:
            skipped.append((row.number, row.problem))
            continue
        count += 1
        asked = queries_for(
            row.data,
            request.columns_to_enrich,
            request.keys,
            context=request.search_context,
        )
        queries.update(asked)
        if count <= SAMPLES:
            sample.update(dict.fromkeys(asked))
    search = _search_usd(engine)
    ask = _ask_usd(request, config, enricher)
    per_round = None if search is None or ask is None else (search, ask)
    return Estimate(
        rows=count,
        skipped=tuple(skipped),
        queries=tuple(sample),
        searches=len(queries),
        likely_usd=per_round and per_round[0] * len(queries) + per_round[1] * count,
        most_usd=per_round
        and (per_round[0] * len(queries) + per_round[1] * count) * (config.refine_rounds + 1),
    )


def _search_usd(engine: SearchEngine) -> Decimal | None:
    price = price_of(engine.name, engine.product)
    nano = price and upper_bound_nano(price, 0, 0)
    return None if nano is None else Decimal(nano) / 10**9


def _ask_usd(
    request: EnrichmentRequest, config: PipelineConfig, enricher: LLMEnricher
) -> Decimal | None:
    """Return what asking for one row costs at most, once by snippets and once by pages."""
    if not isinstance(enricher, ModelEnricher):
        return None
    crawl = config.crawl_config
    sizes = [SNIPPET_TOKENS * crawl.max_results_per_query, PAGE_TOKENS * crawl.max_pages_per_row]
    row = dict.fromkeys(request.keys, "x" * 20)
    total = Decimal(0)
    for tokens in sizes:
        page = {"text": "word " * (tokens * BYTES_PER_TOKEN // 5), "rows": [0], "url": "https://x/"}
        bound = enricher.estimate_bound([page], [row], request.columns_to_enrich)
        if bound is None:
            return None
        total += bound
    return total
