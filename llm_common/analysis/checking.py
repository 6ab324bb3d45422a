"""From a draft to an analysis: every quote is looked up in the sources, in code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..evidence import Passages
from .models import (
    BillAnalysis,
    DraftAnalysis,
    DraftImpact,
    Evidence,
    Impact,
    Quote,
    Source,
    SourceReference,
    Verdict,
)
from .scoring import confidence, evidence_share


def assemble_bill(
    draft: DraftAnalysis, sources: Sequence[Source], *, passed: bool, run_id: str
) -> BillAnalysis:
    """Check a draft's quotes and return the analysis that they support."""
    index = {source.id: (source, Passages(source.text)) for source in sources}
    impacts = [_impact(impact, index) for impact in draft.impacts]
    cited = Counter(e.source_id for i in impacts for e in i.evidence if e.verdict != "unverified")
    return BillAnalysis(
        summary=draft.summary,
        impacts=impacts,
        confidence=confidence(impacts, passed),
        sources=[
            SourceReference(id=s.id, title=s.title, url=s.url, quotes=cited[s.id]) for s in sources
        ],
        run_id=run_id,
    )


def _impact(draft: DraftImpact, index: dict[str, tuple[Source, Passages]]) -> Impact:
    evidence = [_check(quote, index) for quote in draft.evidence]
    verdicts: list[Verdict] = [e.verdict for e in evidence]
    return Impact(
        title=draft.title,
        description=draft.description,
        evidence=evidence,
        confidence=round(draft.confidence * evidence_share(verdicts), 3),
        verified=any(v != "unverified" for v in verdicts),
    )


def _check(quote: Quote, index: dict[str, tuple[Source, Passages]]) -> Evidence:
    """Look a quote up in the source that it names, then in the others."""
    named = [quote.source_id] if quote.source_id in index else []
    for source_id in [*named, *(i for i in index if i != quote.source_id)]:
        source, passages = index[source_id]
        verdict = passages.verify(quote.quote)
        if verdict.status != "unverified":
            return Evidence(
                quote=verdict.quote, source_id=source_id, url=source.url, verdict=verdict.status
            )
    return Evidence(
        quote=quote.quote,
        source_id=quote.source_id,
        url=index[quote.source_id][0].url if named else None,
        verdict="unverified",
    )
