"""From the arguments of a search to a query and its key. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import InvalidInputError
from ..search import RECENCIES, Recency, SearchQuery
from .freshness import QueryClass, class_of

KEY_VERSION = 1
MOST_RESULTS = 50
REMEMBERED = 4_096
"""Questions whose key this process need not work out again."""
_SPACE = re.compile(r"\s+")
_HOST = re.compile(r"[^\s/:@]+\.[^\s/:@]+")


@dataclass(frozen=True, slots=True)
class Question:
    """A search in a project.

    Attributes:
        key: of the cache.
        about: what is stored beside the answer.
    """

    query: SearchQuery
    query_class: QueryClass
    key: str
    about: Mapping[str, Any]


def question_of(
    scope: tuple[str, str],
    query: str,
    count: int,
    domains: Sequence[str] | None,
    recency: Recency | None,
) -> Question:
    """Check the arguments of a search and work out its key.

    Args:
        scope: the project, and the names of the engines in their order.

    Raises:
        InvalidInputError: the search can't be made.
    """
    if isinstance(domains, str):
        raise InvalidInputError("domains must be a list of hosts, not one text")
    return _question(scope, query, count, tuple(domains or ()), recency)


@lru_cache(maxsize=REMEMBERED, typed=True)
def _question(
    scope: tuple[str, str],
    query: str,
    count: int,
    domains: tuple[str, ...],
    recency: Recency | None,
) -> Question:
    wanted = _query(query, count, domains, recency)
    project, engines = scope
    about = {
        "project": project,
        "query": wanted.query,
        "engine": engines,
        "params": {"count": count, "domains": list(wanted.domains), "recency": recency},
    }
    query_class = class_of(wanted)
    return Question(wanted, query_class, cache_key(about), {**about, "class": query_class})


def _query(
    query: str, count: int, domains: tuple[str, ...], recency: Recency | None
) -> SearchQuery:
    text = _SPACE.sub(" ", query).strip()
    if not text:
        raise InvalidInputError("the search query is empty")
    if not 1 <= count <= MOST_RESULTS:
        raise InvalidInputError(f"count must lie in 1 to {MOST_RESULTS}, not {count!r}")
    if recency is not None and recency not in RECENCIES:
        raise InvalidInputError(f"recency must be one of {', '.join(RECENCIES)}, not {recency!r}")
    hosts = tuple(domain.strip().lower() for domain in domains)
    if odd := [host for host in hosts if not _HOST.fullmatch(host)]:
        raise InvalidInputError(f"domains must be hosts such as leg.ca.gov, not {odd[0]!r}")
    return SearchQuery(text, count, hosts, recency)


def cache_key(about: dict[str, Any]) -> str:
    """Hash everything that decides the answer; the order of words, quotes and numbers stay."""
    normal = _SPACE.sub(" ", unicodedata.normalize("NFKC", about["query"])).strip().casefold()
    parts = json.dumps({**about, "query": normal, "v": KEY_VERSION}, sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()
