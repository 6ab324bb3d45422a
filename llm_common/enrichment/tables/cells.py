"""What may stand in one cell: text that no program takes for a formula, or refuses."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

DANGEROUS = re.compile(r"[\s\u200b\ufeff]*[=+\-@＝＋－＠]|[\t\r\n]")
"""How a cell begins that Excel, LibreOffice or Google Sheets may take for a formula."""

NUMBER = re.compile(r"[+-]?\(?\d[\d \u00a0.,()/-]*(?:(?:ext\.?|x) ?\d+|[eE][+-]?\d+)?")
"""A number, an amount or a telephone number: nothing in it can call a function."""

CELL = 32_767
"""UTF-16 units that Excel takes in a cell."""

SURROGATE = re.compile("[\ud800-\udfff]")
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
LINE_BREAK = re.compile("\r\n?")


def clean(text: str) -> str:
    """Return text that UTF-8 can hold; half a character becomes ``�``."""
    return SURROGATE.sub("\ufffd", text)


def flat(value: Any) -> Any:
    """Return a value that fits one cell: lists and dictionaries as their JSON."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (list, tuple, dict)):
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    return value


def written(value: Any) -> str:
    """Return a value as text, as CSV holds it."""
    value = flat(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def guarded(value: Any) -> str:
    """Return a value as CSV text that is no formula: with ``'`` before it, were it one.

    Numbers and telephone numbers stay as they are.
    """
    text = written(value)
    if not isinstance(value, str) or not DANGEROUS.match(text) or NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def sheet_text(text: str) -> str:
    """Return text as a spreadsheet can hold it: no control characters, cut with ``…`` if long."""
    text = NOT_XML.sub("", LINE_BREAK.sub("\n", clean(text)))
    if len(text) * 2 <= CELL or _units(text) <= CELL:
        return text
    cut = text.encode("utf-16-le")[: (CELL - 1) * 2]
    return cut.decode("utf-16-le", "ignore") + "…"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2
