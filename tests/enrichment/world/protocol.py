"""The one place that knows how a prompt is written and how its answer must be.

It follows the prompt `enrich_rows`: rows and pages by number, the text of a page between marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

from .reading import Shown

_ROW = re.compile(r'<row number="(\d+)" pages="([\d ]*)">\nkeys: (.*)\nwanted: (.*)\n</row>')
_PAGE = re.compile(r'<page number="(\d+)" rows="[\d ]*"([^>\n]*)>\n(.*?)\n</page>', re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Asked:
    """One row of a prompt: what it is called there, its keys, what is wanted, and its pages."""

    number: int
    keys: Mapping[str, str]
    columns: tuple[str, ...]
    pages: tuple[Shown, ...]


@dataclass(frozen=True)
class Said:
    """What the model answers for one cell; `page` is a number of the prompt."""

    column: str
    value: str | None
    quote: str | None = None
    page: int | None = None
    reason: str | None = None


def read(body: Mapping[str, Any]) -> list[Asked]:
    """Return the rows that a chat request asks about; none if it is no such request."""
    prompt = "\n".join(str(message.get("content") or "") for message in body["messages"])
    pages = {
        int(number): _shown(int(number), names, text)
        for number, names, text in _PAGE.findall(prompt)
    }
    return [
        Asked(
            int(number),
            dict(pair.split(" = ", 1) for pair in keys.split("; ")),
            tuple(wanted.split(", ")),
            tuple(pages[int(n)] for n in own.split() if int(n) in pages),
        )
        for number, own, keys, wanted in _ROW.findall(prompt)
    ]


def _shown(number: int, names: str, text: str) -> Shown:
    given = {name: unescape(value) for name, value in _ATTRIBUTE.findall(names)}
    return Shown(number, given.get("url", ""), given.get("title", ""), text, given.get("dated", ""))


def write(rows: Sequence[tuple[Asked, Sequence[Said]]]) -> dict[str, Any]:
    """Return the answer, as its schema wants it."""
    return {
        "rows": [
            {"row": asked.number, "cells": [vars(cell) for cell in cells]} for asked, cells in rows
        ]
    }


def prompt(rows: Sequence[Asked]) -> list[dict[str, str]]:
    """Return the messages that ask for rows; every page is shown once."""
    lines: list[str] = []
    shown: dict[int, tuple[Shown, list[int]]] = {}
    for row in rows:
        own = " ".join(str(page.number) for page in row.pages)
        keys = "; ".join(f"{name} = {value}" for name, value in row.keys.items())
        wanted = ", ".join(row.columns)
        lines.append(
            f'<row number="{row.number}" pages="{own}">\nkeys: {keys}\nwanted: {wanted}\n</row>'
        )
        for page in row.pages:
            shown.setdefault(page.number, (page, []))[1].append(row.number)
    for page, numbers in shown.values():
        names = f'title="{escape(page.title)}" url="{escape(page.url)}"'
        dated = f' dated="{page.dated}"' if page.dated else ""
        about = " ".join(map(str, numbers))
        text = page.text.replace("</page", "< /page").replace("<page", "< page")
        lines.append(
            f'<page number="{page.number}" rows="{about}" {names}{dated}>\n{text}\n</page>'
        )
    return [{"role": "user", "content": "\n".join(lines)}]
