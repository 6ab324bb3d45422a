"""All that a page says, a line per block: nothing is pruned, and contact facts are added in place.

What only an attribute says is put where it stands: the number of a `tel:` link, the address of a
`mailto:` link, an `alt`, `title`, `placeholder`, `value` or `aria-label` that holds an e-mail
address or a telephone number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import unquote

from ..extras import require
from .tree import folded, name_of, words_of

_BLOCK_NAMES = (
    "address article aside blockquote body br button caption center dd details dialog dir div dl "
    "dt fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr legend "
    "li main menu nav noscript ol optgroup option p pre section select summary table tbody "
    "textarea tfoot thead tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CELLS = frozenset(("td", "th"))
_UNSEEN = frozenset(("script", "style", "template", "head", "svg"))
_FIRST_PIECES, _FIRST_CHARACTERS = 20, 2000
_SPOKEN = ("alt", "title", "placeholder", "value", "aria-label")
_FACT = re.compile(r"[^\s@]@[^\s@]+\.\w|(?:\d[\s().+/-]{0,3}){7}")
_PHONE_LINK = re.compile(r"(tel|callto|sms|fax):(?://)?([^?;]*)", re.IGNORECASE)
_WHATSAPP = re.compile(
    r"https?://(?:wa\.me/|(?:api|web)\.whatsapp\.com/send/?\?(?:.*&)?phone=)(\+?\d{7,15})"
)
_PROTECTED = re.compile(r"/cdn-cgi/l/email-protection#([0-9a-fA-F]{6,})")
_INVISIBLE = re.compile("[\u00ad\u200b\u200c\u200d\u2060\ufeff]")
# A single space is what it would become: most of a text is not touched.
_BLANKS = re.compile(r"[^\S\n\t]{2,}|[^\S\n\t ]")
_WHITE = re.compile(r"\s{2,}|[^\S ]")
_CELL_EDGE = re.compile(r" *\t[ \t]*")
_LINE_EDGE = re.compile(r"[ \t]*\n[ \t\n]*")
_NOT_WORD = re.compile(r"[\W_]+")


def full_text(root: Any) -> str:
    """Return the text of all blocks in the order of the page; ` | ` stands between table cells."""
    return _settled("".join(_pieces(root)))


def _pieces(root: Any) -> Iterator[str]:
    walk = require("lxml.etree", "pages").iterwalk(root, events=("start", "end"))
    for event, element in walk:
        name = name_of(element)
        if event == "start":
            if name in _UNSEEN:
                walk.skip_subtree()
                continue
            yield from _opening(element, name)
            if element.text and not element.get("data-cfemail"):
                yield element.text if name in {"pre", "textarea"} else _spaced(element.text)
        else:
            if name not in _UNSEEN:
                yield from _closing(element, name)
            if element.tail:
                yield _spaced(element.tail)


def _opening(element: Any, name: str) -> Iterator[str]:
    if name in _BLOCKS:
        yield "\n"
    elif name in _CELLS:
        yield "\t"
    if not element.attrib:
        return
    if code := element.get("data-cfemail"):
        yield f" {unprotected(code)} "
    for attribute in _SPOKEN:
        said = element.get(attribute)
        if said and _FACT.search(said) and said not in _beginning(element):
            yield f" {_spaced(said)} "


def _beginning(element: Any) -> str:
    """Return the first words of an element; enough, for what repeats an attribute is short."""
    return folded("".join(islice(element.itertext(), _FIRST_PIECES))[:_FIRST_CHARACTERS])


def _closing(element: Any, name: str) -> Iterator[str]:
    if name == "a" and (reached := _reached(element.get("href") or "")):
        kind, value = reached
        if _bare(value) not in _bare(words_of(element)):
            yield f" ({kind}: {value}) "
    if name in _BLOCKS:
        yield "\n"
    elif name in _CELLS:
        yield "\t"


def _reached(href: str) -> tuple[str, str] | None:
    """Return who a link calls or writes to, with the scheme."""
    href = href.strip()
    if href[:7].lower() == "mailto:":
        address = unquote(href[7:].partition("?")[0]).strip()
        return ("mailto", address) if address else None
    if phone := _PHONE_LINK.match(href):
        number = unquote(phone[2]).strip()
        return (phone[1].lower(), number) if number else None
    if chat := _WHATSAPP.match(href):
        return "whatsapp", chat[1]
    if protected := _PROTECTED.search(href):
        address = unprotected(protected[1])
        return ("mailto", address) if address else None
    return None


def unprotected(code: str) -> str:
    """Decode an e-mail address as Cloudflare hides it: hexadecimal, each byte XOR the first.

    Source: the script `email-decode.min.js` of such pages. Empty when the code is broken.
    """
    try:
        key, *rest = bytes.fromhex(code)
    except ValueError:
        return ""
    address = bytes(byte ^ key for byte in rest).decode("utf-8", "replace")
    return address.partition("?")[0] if "@" in address else ""


def _bare(text: str) -> str:
    return _NOT_WORD.sub("", text).casefold()


def _spaced(text: str) -> str:
    return _WHITE.sub(" ", text)


def _settled(text: str) -> str:
    """Fold blanks, and end lines where blocks end."""
    seen = _BLANKS.sub(" ", _INVISIBLE.sub("", text).replace("\r", "\n"))
    # Runs of blanks are gone before lines are looked for: no text takes quadratic time.
    lines = _LINE_EDGE.sub("\n", _CELL_EDGE.sub("\t", seen))
    return lines.strip().replace("\t", " | ")
