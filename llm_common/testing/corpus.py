"""The default search: over a corpus of documents, by the terms that they share with the query."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from ..errors import InvalidInputError
from .material import Source, prepare, words

_SITE = re.compile(r"\bsite:(\S+)")


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """A page that searches can find; `published` is an ISO date."""

    title: str
    url: str
    text: str
    published: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search request, apart from any engine's format; `since` is an ISO date.

    Attributes:
        domain: one host, or several with commas between them.
    """

    text: str
    count: int = 10
    domain: str | None = None
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found; `snippet` is its best passage, verbatim."""

    title: str
    url: str
    snippet: str
    published: str | None


Find = Callable[[Query], list[Hit]]
"""A search engine: what it finds for a query, best first."""


def search(corpus: Sequence[CorpusDocument], query: Query) -> list[Hit]:
    """Return the documents that share at least a third of the query's terms, best first."""
    named = _SITE.findall(query.text) or (query.domain or "").split(",")
    domains = [domain for domain in (each.strip(" )") for each in named) if domain]
    terms = set(words(_SITE.sub(" ", query.text)))
    pool = [d for d in corpus if _on_domain(d, domains) and _since(d, query.since)]
    ranked = [(score, d) for d in pool if (score := _score(d, terms)) > 0]
    ranked.sort(key=lambda pair: -pair[0])
    return [_hit(document, terms) for _, document in ranked[: query.count]]


def _score(document: CorpusDocument, terms: set[str]) -> float:
    body, title = words(document.text), set(words(document.title))
    shared = terms & (set(body) | title)
    if not terms or len(shared) < math.ceil(len(terms) / 3):
        return 0.0
    density = sum(math.log1p(body.count(term)) for term in shared)
    return 10 * len(shared) / len(terms) + density / math.log(10 + len(body)) + len(terms & title)


def _hit(document: CorpusDocument, terms: Iterable[str]) -> Hit:
    source = Source(document.url, document.title, document.url, document.text)
    passage = prepare([source]).best(terms)
    snippet = passage.text if passage else document.title
    return Hit(document.title, document.url, snippet, document.published)


def _on_domain(document: CorpusDocument, domains: Sequence[str]) -> bool:
    host = urlsplit(document.url).hostname or ""
    return not domains or any(host == d or host.endswith(f".{d}") for d in domains)


def _since(document: CorpusDocument, since: str | None) -> bool:
    return since is None or document.published is None or document.published[:10] >= since


def load_corpus(folder: Path) -> list[CorpusDocument]:
    """Read a folder: `*.json` holds one document or a list; `*.txt` and `*.md` are a title line
    and a text.

    Raises:
        InvalidInputError: a JSON file has no `title`, `url` and `text`.
    """
    documents: list[CorpusDocument] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            documents.extend(_from_json(path))
        elif path.suffix in (".txt", ".md"):
            documents.append(_from_text(path, path.relative_to(folder).as_posix()))
    return documents


def _from_json(path: Path) -> list[CorpusDocument]:
    found: Any = json.loads(path.read_text(encoding="utf-8"))
    listed = cast("list[dict[str, str]]", found if isinstance(found, list) else [found])
    try:
        return [CorpusDocument(d["title"], d["url"], d["text"], d.get("published")) for d in listed]
    except KeyError as error:
        raise InvalidInputError(f"{path.name} has a document without {error}") from error


def _from_text(path: Path, name: str) -> CorpusDocument:
    text = path.read_text(encoding="utf-8").strip()
    title = text.partition("\n")[0].strip("# ") or path.stem
    return CorpusDocument(title, f"https://example.org/{name}", text)
