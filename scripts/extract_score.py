"""How well pages are read: shared by `extract_bench.py` and the tests that pin its figures."""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_common.crawling.tokens import count_tokens

DATA = Path(__file__).parents[2] / "shared" / "data"
CONTACTS = ("tel", "fax", "email")

_LINE_MARK = re.compile(r"^\s*(?:#{1,6}|[-*+>]|\d+\.)\s+", re.MULTILINE)
_LINK_TARGET = re.compile(r"\]\([^()\s]*\)")


@dataclass(frozen=True)
class Article:
    html: bytes
    url: str
    truth: str


def articles() -> dict[str, Article]:
    folder = DATA / "articles"
    truth = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    return {
        key: Article(
            _unpacked(folder / "html" / f"{key}.html.gz"), each["url"], each["articleBody"]
        )
        for key, each in truth.items()
    }


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


@dataclass(frozen=True)
class ContactPage:
    html: bytes
    truth: Mapping[str, Any]

    def contacts(self) -> list[tuple[str, str]]:
        return [(kind, value) for kind in CONTACTS for value in self.truth.get(kind, ())]


def contact_pages() -> dict[str, ContactPage]:
    folder = DATA / "contact_pages"
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        row["page"]: ContactPage((folder / row["page"]).read_bytes(), row)
        for row in map(json.loads, lines)
    }


def plain_words(markdown: str) -> str:
    """Drop the marks at the beginning of lines, and the targets of links."""
    return _LINK_TARGET.sub("]", _LINE_MARK.sub("", markdown))


@dataclass(frozen=True)
class Score:
    f1: float
    precision: float
    recall: float


def score(pairs: Iterable[tuple[str, str]]) -> Score:
    """Compare texts with their truth, as the article-extraction-benchmark's evaluate.py does.

    Of each page the multisets of shingles (4 successive tokens `\\w+`; fewer where the text has
    fewer) are compared: tp = |T and P|, fp = |P - T|, fn = |T - P|, divided by their sum. Precision
    tp / (tp + fp) is averaged over pages with tp + fp > 0, recall tp / (tp + fn) over pages with
    tp + fn > 0; both are 1 where fp = fn = 0. F1 = 2 P R / (P + R) of the two averages.
    """
    precisions: list[float] = []
    recalls: list[float] = []
    for text, truth in pairs:
        said, wanted = _shingles(text), _shingles(truth)
        common = (said & wanted).total()
        # Normalising by the sum changes neither quotient.
        if said:
            precisions.append(common / said.total())
        if wanted:
            recalls.append(common / wanted.total())
    precision, recall = statistics.mean(precisions), statistics.mean(recalls)
    return Score(2 * precision * recall / (precision + recall), precision, recall)


def _shingles(text: str, length: int = 4) -> Counter[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text)
    starts = range(max(1, len(tokens) - length + 1))
    return Counter(s for i in starts if (s := tuple(tokens[i : i + length])))


def token_share(pages: Iterable[tuple[bytes, str]]) -> float:
    """Return the tokens of all Markdown as a share of those of all HTML."""
    html = markdown = 0
    for page, text in pages:
        html += count_tokens(page.decode("utf-8", "replace"))
        markdown += count_tokens(text)
    return markdown / html
