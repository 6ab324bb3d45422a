"""How well pages are read: shared by `extract_bench.py` and the tests that pin its figures."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data"
CONTACTS = ("tel", "fax", "email")

_LINE_MARK = re.compile(r"^\s*(?:#{1,6}|[-*+>]|\d+\.)\s+", re.MULTILINE)
_LINK_TARGET = re.compile(r"\]\([^()\s]*\)")
_NOT_PHONE = re.compile(r"[\W_]")


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


def has_contact(kind: str, value: str, text: str) -> bool:
    """Whether a text holds a contact string.

    E-mail addresses (and what stands for them, such as "name (at) host") compare by casefold and
    folded whitespace. Telephone numbers by their digits and letters (1-800-FLOWERS) in order, with
    at most six other characters between two of them.
    """
    if kind == "email":
        return " ".join(value.casefold().split()) in " ".join(text.casefold().split())
    keys = [re.escape(c) for c in _NOT_PHONE.sub("", value).casefold()]
    return bool(keys) and re.search(r"[\W_]{0,6}".join(keys), text.casefold()) is not None


def tokens(text: str) -> int:
    """Count tokens of cl100k_base, whose file litellm's package holds."""
    return len(_encoding().encode(text, disallowed_special=()))


@lru_cache
def _encoding() -> Any:
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    held = Path(spec.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(held))
    import tiktoken

    return tiktoken.get_encoding("cl100k_base")


def token_share(pages: Iterable[tuple[bytes, str]]) -> float:
    """Return the tokens of all Markdown as a share of those of all HTML."""
    html = markdown = 0
    for page, text in pages:
        html += tokens(page.decode("utf-8", "replace"))
        markdown += tokens(text)
    return markdown / html
