"""From the bytes of a page to its characters.

The order is that of the HTML standard (https://html.spec.whatwg.org/#determining-the-character-encoding)
but for one thing: bytes that are valid UTF-8 beyond ASCII are UTF-8 whatever is declared, since
text in another charset is practically never so by chance. A declaration that the bytes contradict
gives way to detection.
"""

from __future__ import annotations

import codecs
import re

from ..extras import require

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_PRESCAN_BYTES = 4096
"""The standard asks for 1,024; pages with long comments or scripts on top need more."""
_SAMPLE_BYTES = 16_384
_FEW = 64
"""Bytes beyond ASCII; so few say nothing against a declaration."""
_META = re.compile(rb"<meta\b[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml\b[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_MARKUP = re.compile(rb"<(script|style)\b.{0,8192}?</\1|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_HIGH = re.compile(rb"[\x80-\xff]")
_ASCII_LETTER = re.compile(rb"[A-Za-z]")
_ONE_BYTE = re.compile(r"cp12|cp874|iso8859|koi8|mac|cp866")

# https://encoding.spec.whatwg.org/#names-and-labels, as far as Python names a codec otherwise.
_CODECS = {
    "cp1252": "ascii us-ascii latin1 l1 iso-8859-1 iso8859-1 iso_8859-1 iso88591 cp819 cp1252 "
    "windows-1252 x-cp1252 ansi_x3.4-1968 ibm819 x-user-defined",
    "cp1254": "iso-8859-9 iso8859-9 iso_8859-9 latin5 l5 windows-1254 cp1254",
    "cp874": "iso-8859-11 iso8859-11 tis-620 windows-874 dos-874",
    "cp932": "shift_jis shift-jis sjis x-sjis ms_kanji windows-31j ms932 cp932",
    "cp949": "euc-kr euckr ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 korean windows-949",
    "gb18030": "gb2312 gb_2312 gb_2312-80 gbk x-gbk chinese gb18030 euc-cn",
    "big5hkscs": "big5 big5-hkscs cn-big5 x-x-big5",
    "utf-8": "utf-8 utf8 unicode-1-1-utf-8 unicode11utf8 utf-16 utf-16le utf-16be unicode",
    "iso8859-8": "iso-8859-8 iso-8859-8-i iso-8859-8-e logical hebrew visual",
    "mac_roman": "macintosh mac x-mac-roman",
    "mac_cyrillic": "x-mac-cyrillic x-mac-ukrainian",
}
_BY_LABEL = {label: codec for codec, labels in _CODECS.items() for label in labels.split()}
_PLAIN = re.compile(
    r"iso-8859-(?:[2-7]|1[03-6])|windows-125[0135678]|koi8-[ru]|ibm866|cp866|euc-jp|iso-2022-jp"
)
"""Labels that Python knows by the same name; no other name of Python's codecs is let in."""


def codec(label: str) -> str | None:
    """Return Python's codec for a charset label of the web; None for one that browsers ignore."""
    name = label.strip().lower()
    return _BY_LABEL.get(name) or (name if _PLAIN.fullmatch(name) else None)


def decode(body: bytes, declared: str | None = None) -> str:
    """Decode a page; bytes that fit nowhere become U+FFFD.

    Args:
        declared: the charset parameter of the `Content-Type` header, if there was one.
    """
    for bom, name in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(name, "replace")
    if wide := _without_bom(body):
        return body.decode(wide, "replace")
    named = _declared(body, declared)
    if named == "iso-2022-jp" and b"\x1b" in body:
        return body.decode(named, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        valid_for = error.start
    if named == "utf-8" and _mostly_utf8(body, valid_for):
        return body.decode("utf-8", "replace")
    if named and named != "utf-8" and not _contradicted(body, named):
        return body.decode(named, "replace")
    return body.decode(_detected(body), "replace")


def _declared(body: bytes, header: str | None) -> str | None:
    head = body[:_PRESCAN_BYTES]
    labels = [header or ""]
    labels += [m[1].decode("ascii", "replace") for p in (_META, _XML) if (m := p.search(head))]
    return next((name for label in labels if (name := codec(label))), None)


def _without_bom(body: bytes) -> str | None:
    """Recognise UTF-16 by the NUL that every second byte of mark-up then is."""
    head = body[:64]
    if len(head) < 4 or b"\0" not in head:
        return None
    even, odd = head[::2], head[1::2]
    if even.count(0) == 0 and odd.count(0) > len(odd) * 0.8:
        return "utf-16-le"
    return "utf-16-be" if odd.count(0) == 0 and even.count(0) > len(even) * 0.8 else None


def _mostly_utf8(body: bytes, valid_for: int) -> bool:
    """Tell a page of UTF-8 with some broken bytes from one that only says that it is."""
    sample = body[max(0, valid_for - _SAMPLE_BYTES) : valid_for + _SAMPLE_BYTES]
    text = sample.decode("utf-8", "replace")
    beyond = sum(1 for c in text if c > "\x7f")
    return text.count("�") * 2 <= beyond


def _contradicted(body: bytes, named: str) -> bool:
    """Whether the bytes can't be what is declared.

    A charset of several bytes contradicts by errors. One of single bytes has none; but where over a
    third of all letters are beyond ASCII, the language is not a Latin one.
    """
    sample = _sample(body)
    if _ONE_BYTE.match(codecs.lookup(named).name.replace("-", "")) is None:
        text = sample.decode(named, "replace")
        return text.count("�") * 20 > sum(1 for c in text if c > "\x7f")
    if named not in {"cp1252", "cp1254"}:
        return False
    high = len(_HIGH.findall(sample))
    return high > _FEW and high * 2 > len(_ASCII_LETTER.findall(sample))


def _detected(body: bytes) -> str:
    """Guess; windows-1252 is the standard's own last word."""
    normalizer = require("charset_normalizer", "pages")
    sample = _sample(body)
    guess = normalizer.from_bytes(sample, steps=8, chunk_size=512, threshold=0.4).best()
    name = str(guess.encoding) if guess is not None else ""
    known = codec(name.replace("_", "-")) or codec(name) or name
    # Without a language behind it, the guess is one of many that fit.
    return known if guess is not None and name != "ascii" and guess.alphabets else "cp1252"


def _sample(body: bytes) -> bytes:
    """Return text from where the first byte beyond ASCII stands, without mark-up."""
    first = _HIGH.search(body)
    start = max(0, first.start() - 2048) if first else 0
    return _MARKUP.sub(b" ", body[start : start + 4 * _SAMPLE_BYTES])[:_SAMPLE_BYTES]
