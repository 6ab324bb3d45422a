"""The seam to a web search engine: one query, one request, one shape of result."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import AfterValidator, Field

from ..types import Frozen
from .readonly import FLAT, ReadOnlyDict, read_only

Recency = Literal["1d", "1w", "1m", "1y"]
RECENCIES: tuple[str, ...] = get_args(Recency)


class SearchResult(Frozen):
    """One result, the same for every engine. It is shared by all who search for the same.

    Attributes:
        snippet: a short passage; `content` is the longer text where the engine gives one.
        published_date: as the engine writes it.
        score: as the engine measures it; comparable within one answer only.
        rank: 1 for the first result.
        raw: what the engine sent, whole; it can't be changed, `copy.deepcopy` gives one that can.
    """

    title: str
    url: str
    snippet: str = ""
    content: str | None = None
    published_date: str | None = None
    score: float | None = None
    engine: str = ""
    rank: int = 0
    raw: Annotated[dict[str, Any], AfterValidator(read_only)] = Field(
        default_factory=dict[str, Any], repr=False, validate_default=True
    )


_FIELDS = frozenset(SearchResult.model_fields)
_new, _set = SearchResult.__new__, object.__setattr__


def restored(entries: list[dict[str, Any]]) -> tuple[SearchResult, ...]:
    """Return the results of an answer from their JSON, as one version of `model_dump` wrote it.

    What was checked when it was written is not checked again, because every hit in the database
    builds all of its results here: this is `model_construct` in a third of its time. The JSON
    becomes part of the results.

    Raises:
        pydantic.ValidationError: another version of the library wrote them, and they are none.
    """
    if not entries or entries[0].keys() != _FIELDS:
        return tuple(map(SearchResult.model_validate, entries))
    results: list[SearchResult] = []
    fields = set(_FIELDS)
    for entry in entries:
        if type(entry["score"]) is int:  # jsonb may give a float without its point
            entry["score"] = float(entry["score"])
        raw = entry["raw"]
        is_flat = FLAT.issuperset(map(type, raw.values()))
        entry["raw"] = ReadOnlyDict(raw) if is_flat else read_only(raw)
        result = _new(SearchResult)
        _set(result, "__dict__", entry)
        _set(result, "__pydantic_fields_set__", fields)
        _set(result, "__pydantic_extra__", None)
        _set(result, "__pydantic_private__", None)
        results.append(result)
    return tuple(results)


class Found(list[SearchResult]):
    """Results of an engine that says what they cost.

    Attributes:
        cost_usd: None where it does not say.
    """

    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is searched for.

    Attributes:
        domains: only results of these hosts; empty means all.
        recency: not older than a day, week, month or year.
    """

    query: str
    count: int = 10
    domains: tuple[str, ...] = ()
    recency: Recency | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine is and the key for it; an engine without keys has an empty one."""

    base_url: str
    key_alias: str
    key: str = field(repr=False)


class SearchEngine(Protocol):
    """An engine; `product` is what its requests are priced under.

    One that takes no key says so by ``needs_key = False``.
    """

    name: str
    product: str
    default_base_url: str | None

    async def search(
        self, query: SearchQuery, endpoint: Endpoint, *, timeout_s: float
    ) -> list[SearchResult]:
        """Send exactly one request and return its results, best first.

        What it returns is held to the count, domains and recency afterwards; `Found` also says
        what it cost.

        Raises:
            CallError: by type what went wrong; nothing of the engine's text is in the message.
        """
        ...
