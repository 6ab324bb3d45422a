"""The one place that knows how a prompt is written and how its answer must be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

from .reading import Shown

_ROW = re.compile(r'<row number="(\d+)">(.*?)</row>', re.DOTALL)
_PAGE = re.compile(
    r'<page number="(\d+)" rows="([\d,]*)" title="([^"]*)" url="([^"]*)">\n(.*?)\n</page>',
    re.DOTALL,
)


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
    pages: dict[int, list[Shown]] = {}
    for number, rows, title, url, text in _PAGE.findall(prompt):
        shown = Shown(int(number), unescape(url), unescape(title), text)
        for row in rows.split(","):
            pages.setdefault(int(row), []).append(shown)
    asked: list[Asked] = []
    for number, written in _ROW.findall(prompt):
        row = json.loads(written)
        wanted = tuple(row["wanted"])
        asked.append(Asked(int(number), row["keys"], wanted, tuple(pages.get(int(number), ()))))
    return asked


def write(rows: Sequence[tuple[Asked, Sequence[Said]]]) -> str:
    """Return the answer as JSON."""
    return json.dumps({
        "rows": [
            {"row": asked.number, "cells": [vars(cell) for cell in cells]} for asked, cells in rows
        ]
    })  # fmt: skip


def prompt(rows: Sequence[Asked]) -> list[dict[str, str]]:
    """Return the messages that ask for rows."""
    lines = [
        f'<row number="{row.number}">{json.dumps({"keys": row.keys, "wanted": row.columns})}</row>'
        for row in rows
    ]
    for row in rows:
        for page in row.pages:
            names = f'title="{escape(page.title)}" url="{escape(page.url)}"'
            lines.append(
                f'<page number="{page.number}" rows="{row.number}" {names}>\n{page.text}\n</page>'
            )
    return [{"role": "user", "content": "\n".join(lines)}]
