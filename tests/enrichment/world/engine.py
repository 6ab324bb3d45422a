"""A search engine over the world's pages: BM25, snippets cut from the page."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from urllib.parse import urlsplit

from llm_common.testing import Hit, Query

from .pages import Page
from .people import plain

K1, B = 1.2, 0.75
TITLE_WEIGHT = 3
SNIPPET = 240
CLOSED = "No information is available for this page."

_WORD = re.compile(r"\w+")
_SITE = re.compile(r"\bsite:(\S+)")
_QUOTED = re.compile(r'"([^"]+)"')


class Engine:
    """Pages, indexed once."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self._pages = pages
        self._texts = [page.text for page in pages]
        self._folded = [
            plain(f"{page.title} {text}") for page, text in zip(pages, self._texts, strict=True)
        ]
        self._postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths: list[int] = []
        for i, page in enumerate(pages):
            counted = Counter(words(self._folded[i]))
            counted.update(dict.fromkeys(words(plain(page.title)), TITLE_WEIGHT - 1))
            self._lengths.append(counted.total())
            for word, count in counted.items():
                self._postings[word].append((i, count))
        self._mean = sum(self._lengths) / max(1, len(pages))

    def find(self, query: Query) -> list[Hit]:
        """Return what fits best; a quoted phrase must stand on a page, if any page has it."""
        named = _SITE.findall(query.text) or (query.domain or "").split(",")
        domains = [each.strip(" ).") for each in named if each.strip(" ).")]
        asked = _SITE.sub(" ", query.text)
        terms = set(words(plain(asked)))
        scores = self._scores(terms)
        fitting = [i for i in scores if self._fits(i, domains, query.since)]
        phrases = [plain(phrase) for phrase in _QUOTED.findall(asked)]
        strict = [i for i in fitting if all(phrase in self._folded[i] for phrase in phrases)]
        ranked = sorted(strict or fitting, key=lambda i: (-scores[i], self._pages[i].url))
        return [self._hit(i, terms) for i in ranked[: query.count]]

    def _scores(self, terms: set[str]) -> dict[int, float]:
        scores: defaultdict[int, float] = defaultdict(float)
        for term in sorted(terms):
            found = self._postings.get(term, ())
            rarity = math.log(1 + (len(self._pages) - len(found) + 0.5) / (len(found) + 0.5))
            for i, count in found:
                norm = K1 * (1 - B + B * self._lengths[i] / self._mean)
                scores[i] += rarity * count * (K1 + 1) / (count + norm)
        return scores

    def _fits(self, i: int, domains: Sequence[str], since: str | None) -> bool:
        page = self._pages[i]
        host = urlsplit(page.url).hostname or ""
        on_domain = not domains or any(host == d or host.endswith(f".{d}") for d in domains)
        return on_domain and (not since or not page.published or page.published >= since)

    def _hit(self, i: int, terms: set[str]) -> Hit:
        page = self._pages[i]
        snippet = CLOSED if page.is_closed else _snippet(self._texts[i], terms)
        return Hit(page.title, page.url, snippet, page.published)


def words(folded: str) -> list[str]:
    """Return the words of a folded text."""
    return _WORD.findall(folded)


def _snippet(text: str, terms: set[str]) -> str:
    """Cut the lines that hold most of the terms, and go on until it is long enough."""
    lines = text.split("\n")
    hits = [len(terms & set(words(plain(line)))) for line in lines]
    best = max(range(len(lines)), key=lambda n: (hits[n], -n), default=0)
    return " … ".join(lines[best:])[:SNIPPET]
