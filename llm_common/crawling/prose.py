"""The main content of a page as Markdown, pruned by trafilatura.

Precision mode first: it leaves out teasers and notices that the balanced mode keeps. Where it keeps
little of what the balanced mode finds, it has mistaken a notice for the article, and the balanced
answer counts.
"""

from __future__ import annotations

import logging
from typing import Any

from .. import telemetry
from .extra import require

SHORT = 1500
"""Characters; a shorter answer of the precision mode is compared with the balanced one."""
LEAST_SHARE = 0.25
"""Of the balanced answer's length."""

# trafilatura warns of every page without an article; that is no news to a host.
logging.getLogger("trafilatura").addHandler(logging.NullHandler())


def prose(root: Any) -> str:
    """Return the main content: headings, paragraphs, lists, quotes and tables; empty if none.

    The tree stays as it is. Whatever trafilatura can't digest gives no prose, and an event in the
    log: the full text still has everything.
    """
    try:
        return _rendered(_pruned(root))
    except Exception as error:  # noqa: BLE001 - a page may break a foreign heuristic, never us
        telemetry.event("prose_failed", level=logging.WARNING, error=type(error).__name__)
        return ""


def _pruned(root: Any) -> Any | None:
    precise = _extracted(root, precision=True)
    if _length(precise) >= SHORT:
        return precise
    balanced = _extracted(root, precision=False)
    return precise if _length(precise) > LEAST_SHARE * _length(balanced) else balanced


def _extracted(root: Any, *, precision: bool) -> Any | None:
    return require("trafilatura").bare_extraction(
        root, include_comments=False, favor_precision=precision, output_format="markdown"
    )


def _length(document: Any | None) -> int:
    return len(document.raw_text) if document is not None else 0


def _rendered(document: Any | None) -> str:
    """Write the tree as Markdown; bold and italics cost tokens, split words and say little."""
    if document is None:
        return ""
    require("lxml.etree").strip_tags(document.body, "hi")
    return require("trafilatura.xml").xmltotxt(document.body, True).strip()
