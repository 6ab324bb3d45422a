"""Which of the pages that a search found are worth fetching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..research.searching import page_key
from ..search.ranking import host_class
from .dates import iso_date, years_in
from .interfaces import CrawlDecisionMaker, Dict
from .merging import domain_of
from .wording import in_order, texts_of, word_set

PER_DOMAIN = 2

_UNFETCHABLE = in_order(
    ".jpg .jpeg .png .gif .webp .svg .mp3 .mp4 .mov .avi .zip .gz .tar .exe .dmg .xls .xlsx .doc "
    ".docx .ppt .pptx .ics .vcf .css .js .json .xml .rss"
)
_CLOSED = (
    "facebook.com", "instagram.com", "tiktok.com", "linkedin.com", "x.com", "twitter.com",
    "youtube.com", "pinterest.com", "reddit.com",
)  # fmt: skip
"""Domains that show a visitor without an account nothing to quote."""
_AGGREGATORS = (
    "spokeo.com", "whitepages.com", "beenverified.com", "mylife.com", "radaris.com", "intelius.com",
    "zoominfo.com", "rocketreach.co", "apollo.io", "truepeoplesearch.com", "fastpeoplesearch.com",
    "peekyou.com", "yellowpages.com", "manta.com", "dnb.com", "crunchbase.com",
)  # fmt: skip
"""Domains that copy from others, guess, and mix namesakes up."""
_PLAIN = word_set("the of and for in a an inc llc ltd co")


class DefaultCrawlDecisionMaker(CrawlDecisionMaker):
    """Takes pages that name the row, official ones first, two of a domain at most."""

    async def select_urls_to_crawl(
        self, search_results: Sequence[Dict], max_urls: int, *, row: Dict | None = None
    ) -> list[str]:
        """Return URLs; see `CrawlDecisionMaker.select_urls_to_crawl`."""
        return chosen(search_results, max_urls, row=row)


def chosen(
    results: Sequence[Dict], most: int, *, row: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the URLs of results that are worth fetching, the most promising first.

    A result scores by the part of the row's words that its title, snippet and URL have (up to 4),
    by its host (a government's 2, .edu and .org 1/2, those that copy from others -2), by its place
    in the answer (up to 1) and its date (up to 1/2, for the newest year).
    Of pages with the same text one is taken.
    """
    wanted = [texts_of(str(value)) for value in (row or {}).values() if value not in (None, "")]
    ranks: Counter[str] = Counter()
    scored: list[tuple[float, int, str, str]] = []
    seen: set[str] = set()
    newest = max(map(_year, results), default=0)
    for number, result in enumerate(results):
        url = str(result.get("url") or "")
        ranks[str(result.get("query"))] += 1
        key = page_key(url)
        copied = " ".join(texts_of(str(result.get("snippet") or "")))
        if not _is_fetchable(url) or key in seen or (len(copied) > 80 and copied in seen):
            continue
        seen |= {key, copied}
        score = _score(result, wanted) + 1 / ranks[str(result.get("query"))]
        if year := _year(result):
            score += max(0.0, 0.5 - 0.1 * (newest - year))
        scored.append((-score, number, domain_of(url) or "", url))
    taken: list[str] = []
    per_domain: Counter[str] = Counter()
    for _, _, domain, url in sorted(scored):
        per_domain[domain] += 1
        if per_domain[domain] <= PER_DOMAIN and len(taken) < most:
            taken.append(url)
    return taken


def _is_fetchable(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return not parts.path.lower().endswith(_UNFETCHABLE) and not _is_of(parts.hostname, _CLOSED)


def _score(result: Mapping[str, Any], wanted: Sequence[Sequence[str]]) -> float:
    url = str(result.get("url") or "")
    said = set(texts_of(" ".join(str(result.get(name) or "") for name in ("title", "snippet"))))
    said |= set(texts_of(url.replace("_", " ").replace("-", " ")))
    names = [[word for word in words if word not in _PLAIN] for words in wanted]
    parts = [sum(word in said for word in words) / len(words) for words in names if words]
    named = 4 * sum(parts) / len(parts) if parts else 0.0
    host = urlsplit(url).hostname or ""
    official = (2.0, 0.5, 0.0)[host_class(url)] - 2 * _is_of(host, _AGGREGATORS)
    return named + official


def _year(result: Mapping[str, Any]) -> int:
    """Return the year of a result, whose date is as the engine writes it; 0 without one."""
    return next(years_in(iso_date(str(result.get("published_date") or "")) or ""), 0)


def _is_of(host: str, domains: Sequence[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
