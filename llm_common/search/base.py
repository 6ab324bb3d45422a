"""The seam to a web search engine: one query, one request, one shape of result."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import AfterValidator, Field

from ..types import Frozen
from .readonly import read_only

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


def restored(entries: list[dict[str, Any]]) -> tuple[SearchResult, ...]:
    """Return results from their JSON, as `model_dump` has written it. It becomes part of them.

    This is `model_construct` for what has every field: what was checked when it was written is not
    checked again, because every hit in the database builds all of its results here.

    Raises:
        pydantic.ValidationError: another version of the library wrote one, and it is no result.
    """
    results: list[SearchResult] = []
    for entry in entries:
        # jsonb may give a float that is whole without its point.
        if entry.keys() != _FIELDS or type(entry["score"]) is int:
            results.append(SearchResult.model_validate(entry))
            continue
        entry["raw"] = read_only(entry["raw"])
        result = _new(SearchResult)
        _set(result, "__dict__", entry)
        _set(result, "__pydantic_fields_set__", set(_FIELDS))
        _set(result, "__pydantic_extra__", None)
        _set(result, "__pydantic_private__", None)
        results.append(result)
    return tuple(results)


_new, _set = SearchResult.__new__, object.__setattr__


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
