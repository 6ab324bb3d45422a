"""The main content of a page as Markdown, pruned by trafilatura.

Precision mode first: it leaves out teasers and notices that the balanced mode keeps. Where it keeps
little of what the balanced mode finds, it has mistaken a notice for the article, and the balanced
answer counts.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from itertools import islice
from typing import Any

from .. import telemetry
from ..extras import require

SHORT = 1500
"""Characters; a shorter answer of the precision mode is compared with the balanced one."""
LEAST_SHARE = 0.25
"""Of the balanced answer's length."""
PROSE_SHARE = 0.7
"""Of what a page shows; where paragraphs hold so much, a second opinion is seldom needed."""
MOST_ELEMENTS = 50_000
"""Of a page that is pruned: trafilatura takes about 0.1 ms for each, and more for long lists."""

# trafilatura warns of every page without an article; that is no news to a host.
logging.getLogger("trafilatura").addHandler(logging.NullHandler())


def prose(root: Any, shown: str) -> str:
    """Return the main content: headings, paragraphs, lists, quotes and tables.

    Empty if there is none, or the page has more than 50,000 elements.

    Args:
        shown: the full text of the page.

    The tree stays as it is. Whatever trafilatura can't digest gives no prose, and an event in the
    log: the full text still has everything.
    """
    if sum(1 for _ in islice(root.iter(), MOST_ELEMENTS + 1)) > MOST_ELEMENTS:
        return ""
    try:
        return _rendered(_pruned(root, len(shown)))
    except Exception as error:  # noqa: BLE001 - a page may break a foreign heuristic, never us
        telemetry.event("prose_failed", level=logging.WARNING, error=type(error).__name__)
        return ""


def _pruned(root: Any, shown: int) -> Any | None:
    if _is_prose(root, shown):
        alone = _extracted(root, "precision", fast=True)
        if alone is not None and _is_settled(alone, shown):
            return alone
    precise = _extracted(root, "precision")
    if _length(precise) >= SHORT:
        return precise
    balanced = _extracted(root, "balanced")
    return precise if _length(precise) > LEAST_SHARE * _length(balanced) else balanced


def _is_prose(root: Any, shown: int) -> bool:
    held = sum(len(paragraph.text_content()) for paragraph in root.iter("p"))
    return held >= max(SHORT, PROSE_SHARE * shown)


def _is_settled(document: Any, shown: int) -> bool:
    """Tell whether a second opinion could not replace an answer.

    trafilatura takes readability's where that has twice as much text or the answer has more tables
    than paragraphs, and asks it every time, which takes longer than the answer did on short pages.
    Output is the same; pages that are mostly prose take half the time.
    """
    paragraphs = len(document.body.findall(".//p"))
    tables = len(document.body.findall(".//table"))
    length = _length(document)
    return length >= SHORT and 2 * length >= shown and 0 < paragraphs >= tables


def _extracted(root: Any, focus: str, *, fast: bool = False) -> Any | None:
    return require("trafilatura", "pages").bare_extraction(root, options=_options(focus, fast))


@lru_cache(maxsize=3)
def _options(focus: str, fast: bool) -> Any:
    """Read trafilatura's settings once: its parser of them takes a tenth of a small page's time."""
    settings = require("trafilatura.settings", "pages")
    return settings.Extractor(
        config=settings.DEFAULT_CONFIG,
        output_format="markdown",
        precision=focus == "precision",
        fast=fast,
        comments=False,
    )


def _length(document: Any | None) -> int:
    return len(document.raw_text) if document is not None else 0


def _rendered(document: Any | None) -> str:
    """Write the tree as Markdown; bold and italics cost tokens, split words and say little."""
    if document is None:
        return ""
    require("lxml.etree", "pages").strip_tags(document.body, "hi")
    return require("trafilatura.xml", "pages").xmltotxt(document.body, True).strip()
