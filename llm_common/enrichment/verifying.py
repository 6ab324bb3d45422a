"""Does a page bear an answer out: decided in code, the model's word proves nothing.

A value is ``verified`` or ``repaired`` only if it is of its column's type, its quote stands on a
page that was shown, the passage holds the value, and the passage is about the row; a namesake or a
neighbour in a list is not the row. Where that can not be told, the value is ``unverified``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from ..crawling.urls import registered_domain
from ..evidence import verify
from ..search.ranking import host_class
from . import lexicon as lex
from .columns import identity, label_words, normal_value, places, values_in
from .fields import wrong_field
from .merging import domain_of
from .models import Column, Evidence, Verdict
from .naming import Key, Span, keys_of
from .outdated import age_of, is_archive, page_date, past_of
from .ownership import Asked, Owner, is_about, owner_of
from .page_text import PageText, named, text_of
from .regions import region_of
from .surroundings import primary_of, unnamed
from .wording import found, texts_of, words_in

Dict = Mapping[str, Any]
Stood = Literal["verified", "repaired"]

_EDGES = " \t\r\n|#*->•\"'“”‘’"
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,30}\b(?:previous|prior|above|earlier|preceding|all)\b"
    r"[^.\n]{0,20}\b(?:instruction|prompt|rule|order|direction)s?\b"
    r"|\b(?:mark|report|return) (?:it|them|this|these)\b[^.\n]{0,20}\b(?:as )?verified\b",
    re.IGNORECASE,
)
"""Written for models: a page that has such a thing bears out nothing."""
_TELLING = frozenset({"phone", "email", "url", "date"})
"""Types whose values tell by themselves what they are; others need their column's name beside."""
_TELLING_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Case:
    """A cell, with what is known of its row."""

    keys: tuple[Key, ...]
    column: Column
    value: Any
    region: str
    now: datetime
    max_age_days: int | None

    @property
    def identity(self) -> str:
        """What all ways to write the value have in common."""
        return identity(self.column, self.value)

    def values(self, text: str) -> list[tuple[str, int, int]]:
        """Return values like this one in a text; of a column that has no such form, this one."""
        column = self.column
        if column.type in ("text", "boolean"):
            spans = places(column, self.value, text, region=self.region)
            return [(self.identity, start, end) for start, end in spans]
        found = values_in(column, text, region=self.region)
        return [(identity(column, v), a, b) for v, a, b in found if v is not None]


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a page bears a value out, or why it does not."""

    verdict: Verdict
    quote: str = ""
    reason: str | None = None


def judge(
    row: Dict,
    keys: Sequence[str],
    column: Column,
    answer: Dict,
    pages: Sequence[Dict],
    *,
    now: datetime,
    max_age_days: int | None,
) -> Evidence:
    """Return what pages say to one answer.

    Args:
        keys: columns of `row` that name it.
        answer: ``value``, ``quote`` and ``url`` of one cell, or ``value`` None and ``reason``.
        pages: all that the model was shown for this row, as a crawler gives them.
        max_age_days: of a page; None accepts any age.

    Raises:
        MissingExtraError: a telephone number, without the extra `contacts`.
    """
    given, quote, url = answer.get("value"), str(answer.get("quote") or ""), answer.get("url")
    if given is None:
        reason = str(answer.get("reason") or "the model found no value")
        return Evidence(value=None, verdict="missing", reason=reason)
    ordered = sorted((p for p in pages if text_of(p).text), key=lambda page: page.get("url") != url)
    region = region_of(row, ordered)
    value = normal_value(column, given, region=region)
    if value is None:
        reason = f"{str(given)[:100]!r} is no {column.type}"
        return Evidence(value=None, quote=quote or None, verdict="missing", reason=reason)
    case = Case(keys_of(row, keys), column, value, region, now, max_age_days)
    failed = Proof("unverified", reason="the quote stands on no page that was shown")
    if not case.keys:
        failed = Proof("unverified", reason="the row has no key values to look for")
        ordered = []
    best: Evidence | None = None
    for proof, page in _proofs(case, quote, ordered):
        if proof.verdict == "unverified":
            failed = proof if proof.reason else failed
            continue
        said = _evidence(case, proof, page)
        if best is None or _RANK[said.verdict] < _RANK[best.verdict]:
            best = said
        if said.verdict == "verified":
            break
    return best or Evidence(value=value, quote=quote or None, reason=failed.reason)


_RANK: Mapping[Verdict, int] = {"verified": 0, "repaired": 1, "outdated": 2}


def official(key: Key, url: str) -> bool:
    """Whether a page is a government's, or on a domain that is called like the organisation."""
    if host_class(url) == 0:
        return True
    if key.kind != "thing" or len("".join(key.words)) < 4:
        return False
    name = registered_domain(urlsplit(url).netloc.lower()).partition(".")[0]
    words = [word for word in key.words if word not in lex.FUNCTION]
    return name.replace("-", "") in ("".join(words), "".join(key.words))


def _proofs(case: Case, quote: str, pages: Sequence[Dict]) -> Iterator[tuple[Proof, Dict]]:
    """Yield what the pages say: to the quote first, then to the value alone."""
    for page in pages:
        yield _by_quote(case, quote, page), page
    for page in pages:
        if proof := _by_address(case, page):
            yield proof, page
    alone = [(proof, page) for page in pages for proof in _by_value(case, page)]
    if len({_bare(proof.quote) for proof, _ in alone}) == 1 or case.column.type in _TELLING:
        yield from alone


def _by_quote(case: Case, quote: str, page: Dict) -> Proof:
    text = text_of(page)
    best = Proof("unverified")
    for quoted, stood in _stands(quote, text):
        spans, status = _value_spans(case, text, quoted, stood)
        if not spans:
            best = Proof("unverified", reason="the quote does not hold the value")
        for span in spans:
            proof = _proved(case, page, (span, quoted), status)
            if proof.verdict == "verified":
                return proof
            if best.verdict == "unverified" or _rank(proof) < _rank(best):
                best = proof
    return best


def _rank(proof: Proof) -> int:
    return _RANK.get(proof.verdict, 3)


def _by_value(case: Case, page: Dict) -> list[Proof]:
    """Return the passages that bear a value out, where the quote of a model does not help."""
    text = text_of(page)
    proofs: list[Proof] = []
    for start, end in places(case.column, case.value, text.text, region=case.region):
        number = text.unit_at(start)
        unit, above = text.units[number], text.units[max(0, number - 1)]
        is_field = len(words_in(above.text)) <= 3
        if not _tells(case, f"{above.text}\n{unit.text}" if is_field else unit.text):
            continue
        proof = _proved(case, page, ((start, end), (unit.start, unit.end)), "repaired")
        if proof.verdict != "unverified":
            proofs.append(proof)
    return proofs


def _by_address(case: Case, page: Dict) -> Proof | None:
    """Bear out a web address by its own page: it is about the row, on a domain called like it."""
    text, url, key = text_of(page), str(page.get("url") or ""), primary_of(case.keys)
    is_own = domain_of(url) == domain_of(str(case.value)) and domain_of(url) is not None
    if case.column.type != "url" or key.kind != "thing" or not is_own or not official(key, url):
        return None
    units = (number for number, unit in enumerate(text.units) if named(key, unit.text)[0])
    number = next(units, None)
    if number is None or not is_about(text, key):
        return None
    asked = Asked(text, (start := text.units[number].start, start), key, case.values, case.identity)
    if unnamed(asked, Owner(number), case.keys, page):
        return None
    unit = text.units[number]
    return Proof("repaired", _quotable(text, number, unit.start, unit.end), "it is the page's own")


def _tells(case: Case, passage: str) -> bool:
    column = case.column
    if column.type in _TELLING:
        return True
    if column.type == "text" and len(str(case.value)) >= _TELLING_LENGTH and " " in str(case.value):
        return True
    return bool(label_words(column) & {word.text for word in words_in(passage)})


def _stands(quote: str, text: PageText) -> list[tuple[Span, Stood]]:
    """Return where a quote stands: word for word, however short; else as `evidence` repairs it."""
    bare = quote.strip(_EDGES)
    words = texts_of(bare)
    exact = [(text.words[a].start, text.words[b].end) for a, b in found(words, text.words)]
    verdict = text.passages.verify(bare)
    exact = [span for span in exact if _same_marks(bare, text, span)]
    if verdict.status == "verified" and exact:
        return [(span, "verified") for span in exact]
    if verdict.start is not None and verdict.end is not None:
        status = "verified" if verdict.status == "verified" else "repaired"
        return [((verdict.start, verdict.end), status)]
    short = len(words) <= 4 or len(bare) < 24
    return [(span, "verified") for span in exact if short]


def _same_marks(quote: str, text: PageText, span: tuple[int, int]) -> bool:
    """Whether a short quote is the page's own, signs and all but blanks and case included."""
    return _bare(quote) in _bare(text.text[max(0, span[0] - 2) : span[1] + 2])


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text).casefold()


def _value_spans(
    case: Case, text: PageText, quoted: Span, status: Stood
) -> tuple[list[Span], Stood]:
    """Return where the value stands in a quote, else in the lines that the quote is in."""
    start, end = quoted
    low = text.units[text.unit_at(start)].start
    high = text.units[text.unit_at(end - 1)].end
    spans = [
        (low + a, low + b)
        for a, b in places(case.column, case.value, text.text[low:high], region=case.region)
    ]
    inside = [span for span in spans if span[0] < end and start < span[1]]
    whole = [span for span in inside if start <= span[0] and span[1] <= end]
    return (whole, status) if whole else (inside or spans, "repaired")


def _proved(case: Case, page: Dict, at: tuple[Span, Span], status: Stood) -> Proof:
    """Judge one place of a page: where the value stands, and the quote around it."""
    (span, quote), text = at, text_of(page)
    if _ORDERS.search(text.text):
        return Proof("unverified", reason="the page tells its readers what to answer")
    asked = Asked(text, span, primary_of(case.keys), case.values, case.identity)
    owner = owner_of(asked)
    if isinstance(owner, str):
        return Proof("unverified", reason=f"the passage {owner}")
    reason = unnamed(asked, owner, case.keys, page) or wrong_field(
        asked, owner, case.column, case.value
    )
    if reason:
        return Proof("unverified", reason=f"the passage {reason}")
    words = _quotable(text, asked.unit, min(quote[0], span[0]), max(quote[1], span[1]))
    past = past_of(text, owner, asked.unit, now=case.now, max_age_days=case.max_age_days)
    if past:
        return Proof("outdated", words, f"the page says {past!r}")
    return Proof(
        status, words, None if status == "verified" else "the quote is the page's own words"
    )


def _quotable(text: PageText, unit: int, start: int, end: int) -> str:
    """Return the page's words; a quote that is too short to be looked up takes in what is above."""
    quote = text.text[start:end]
    if verify(quote, quote).status == "verified":
        return quote
    first = unit
    while first >= 0:
        quote = text.text[text.units[first].start : max(end, text.units[unit].end)].strip()
        if verify(quote, quote).status == "verified":
            break
        first -= 1
    return quote


def _evidence(case: Case, proof: Proof, page: Dict) -> Evidence:
    url = str(page.get("url") or "") or None
    dated = page_date(page, text_of(page))
    verdict, reason = proof.verdict, proof.reason
    age = age_of(dated, case.now)
    if is_archive(url):
        verdict, reason = "outdated", "the page is an archive's copy"
    elif age and case.max_age_days is not None and age.days > case.max_age_days:
        verdict, reason = "outdated", f"the page is of {str(dated)[:10]}"
    return Evidence(
        value=case.value,
        quote=proof.quote,
        url=url,
        verdict=verdict,
        dated=dated,
        is_official=bool(url) and official(primary_of(case.keys), url or ""),
        reason=reason,
    )
