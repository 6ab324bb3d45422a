"""HTML pages, and bills and resolutions in USLM XML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..extras import require
from .models import Parsed, UnreadableError
from .plain import refuse_binary

USLM = "{http://schemas.gpo.gov/xml/uslm}"
DC = "{http://purl.org/dc/elements/1.1/}"

UNSEEN = frozenset(("script", "style", "noscript", "template", "head", "svg", "meta"))


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the elements that stand on lines of their own.

    Attributes:
        levels: a blank line is around them.
        spaced: a space follows them on their line.
    """

    blocks: frozenset[str]
    levels: frozenset[str]
    spaced: frozenset[str]


_HTML_BLOCKS = (
    "address article aside blockquote body br caption dd div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hr legend li main nav ol option p pre section table "
    "tbody tfoot thead tr ul"
)
_USLM_BLOCKS = (
    "subsection paragraph subparagraph clause subclause item subitem quotedContent continuation p "
    "recital longTitle docTitle officialTitle enactingFormula resolvingClause signature notation "
    "slugLine distributionCode congress session currentChamber action actionDescription "
    "relatedDocument toc referenceItem attestation endMarker br"
)
_USLM_LEVELS = "title section appropriations preamble signatures endorsement"
PAGE = Layout(frozenset(_HTML_BLOCKS.split()), frozenset(), frozenset(("td", "th")))
BILL = Layout(
    frozenset(_USLM_BLOCKS.split()),
    frozenset(_USLM_LEVELS.split()),
    frozenset(("num", "type", "name")),
)


def read_html(raw: bytes) -> Parsed:
    """Read a page: what a reader sees, a line per block.

    Raises:
        UnreadableError: there is nothing in it.
    """
    refuse_binary(raw)
    etree, html = require("lxml.etree", "documents"), require("lxml.html", "documents")
    parser = html.HTMLParser(no_network=True, huge_tree=True, encoding=_evident_encoding(raw))
    try:
        root = html.document_fromstring(raw, parser=parser)
    except etree.ParserError as error:
        raise UnreadableError("is HTML without content") from error
    title = next((_folded(e) for name in ("title", "h1") for e in root.iter(name)), "")
    return Parsed(_lines(root, PAGE), title)


def _evident_encoding(raw: bytes) -> str | None:
    """Return UTF-8 where the bytes are; otherwise the page's own declaration counts."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return None
    return "utf-8"


def read_uslm(raw: bytes) -> Parsed:
    """Read a bill or resolution: numbered lines in reading order, without the meta block.

    Raises:
        UnreadableError: damaged, not a bill, or with entities of its own, which could pull in
            other files or grow without end.
    """
    etree = require("lxml.etree", "documents")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableError("is damaged XML") from error
    if next(root.iter(etree.Entity), None) is not None:
        raise UnreadableError("declares XML entities, which are not followed")
    if not str(root.tag).startswith(USLM):
        raise UnreadableError("is XML, but not a bill in USLM")
    return Parsed(_lines(root, BILL), _title(root), _identity(root))


def _identity(root: Any) -> str:
    """Return the most readable citation: words apart, abbreviations with their full stops."""
    citations = [_folded(e) for e in root.iter(f"{USLM}citableAs")]
    if citations:
        return max(citations, key=lambda c: (" " in c, c.count("."), len(c)))
    paths = (
        f"{USLM}meta/{USLM}congress",
        f"{USLM}preface/{DC}type",
        f"{USLM}preface/{USLM}docNumber",
    )
    found = [root.find(path) for path in paths]
    return " ".join(_folded(part) for part in found if part is not None)


def _title(root: Any) -> str:
    """Return the title without the citation that is put before it."""
    titles = [_folded(e) for e in root.iter(f"{DC}title")]
    return re.sub(r"^\d+ [A-Z]+ \d+ ?[A-Z]*\s*: *", "", titles[0]) if titles else ""


def _lines(root: Any, layout: Layout) -> str:
    """Write an element as lines: a form feed marks a level until the spaces are settled."""
    parts: list[str] = []
    walk = require("lxml.etree", "documents").iterwalk(
        root, events=("start", "end", "comment", "pi")
    )
    for event, element in walk:
        name = _name(element)
        if event == "start" and name in UNSEEN:
            walk.skip_subtree()
        elif event == "start":
            parts += (_edge(name, layout), _spaced(element.text))
        else:
            if event == "end" and name not in UNSEEN:
                parts.append(_edge(name, layout) or _gap(name, element, layout))
            parts.append(_spaced(element.tail))
    return _settled("".join(parts))


def _settled(text: str) -> str:
    one_space = re.sub(r" +", " ", text)
    lines = re.sub(r"[ \n]*\n[ \n]*", "\n", one_space)
    spread = re.sub(r"\s*\f\s*", "\n\n", lines)
    # A quotation that is a block of its own leaves its full stop behind.
    return re.sub(r"\s*\n([.;,])", r"\1", spread).strip()


def _name(element: Any) -> str:
    """Return the local name; comments and instructions have none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _edge(name: str, layout: Layout) -> str:
    return "\f" if name in layout.levels else "\n" if name in layout.blocks else ""


def _gap(name: str, element: Any, layout: Layout) -> str:
    """Return what parts a number, a heading or a cell from what follows on its line."""
    if name != "heading":
        return " " if name in layout.spaced else ""
    if _name(element.getparent()) in layout.levels:
        return "\n"
    return "" if "".join(element.itertext()).rstrip().endswith("—") else " "


def _spaced(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _folded(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())
