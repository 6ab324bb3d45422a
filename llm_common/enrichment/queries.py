"""Search queries for rows: the key values as they stand, and what is wanted of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .interfaces import Dict, QueryStringBuilder
from .models import Column
from .naming import keys_of
from .states import NAMES

MOST_WORDS = 32
"""More than so many words, and engines leave some out."""
AT_ONCE = 3
"""Columns that one query of a later round asks for."""

_BY_TYPE = {"phone": "contact phone", "email": "contact email", "url": "official website"}
_SPLIT = re.compile(r"[_\W]+|(?<=[a-z])(?=[A-Z])")
_ODD = re.compile(r"[\"“”\s]+")


class DefaultQueryStringBuilder(QueryStringBuilder):
    """One query for each row at first; later rounds ask for what is weak, each time otherwise."""

    async def build_queries(
        self,
        rows: Sequence[Dict],
        columns_to_enrich: Sequence[Column],
        primary_keys: Sequence[str],
        *,
        round_no: int = 0,
        context: Dict | None = None,
    ) -> list[str]:
        """Return queries for rows; see `QueryStringBuilder.build_queries`."""
        found = (
            query
            for row in rows
            for query in queries_for(
                row, columns_to_enrich, primary_keys, round_no=round_no, context=context
            )
        )
        return list(dict.fromkeys(found))


def queries_for(
    row: Dict,
    columns: Sequence[Column],
    keys: Sequence[str],
    *,
    round_no: int = 0,
    context: Dict | None = None,
) -> list[str]:
    """Return the queries of one row in one round; none for a row without key values.

    Round 0 is one query for all columns. Round 1 asks for groups of them on government sites, and
    by the column's name with ``official`` or ``contact``; round 2 and later by the descriptions,
    and without the quotation marks, which find nothing where a name is written otherwise.
    """
    subject = _subject(row, keys, is_quoted=round_no < 2)
    if not subject or not columns:
        return []
    said = _context(context)
    if round_no == 0:
        return [_query(subject, said, *(_words(column) for column in columns))]
    groups = [columns[at : at + AT_ONCE] for at in range(0, len(columns), AT_ONCE)]
    if round_no == 1:
        asked = [_query(subject, *_wordings(group)) for group in groups]
        return [*asked, _query(subject, said, "site:.gov")]
    told = [_query(subject, said, _description(column)) for column in columns]
    profile = ("profile", "directory", "staff", "press release")[round_no % 4]
    return list(dict.fromkeys([*told, _query(subject, said, profile)]))


def _subject(row: Dict, keys: Sequence[str], *, is_quoted: bool) -> str:
    words: list[str] = []
    for key in keys_of(row, keys):
        value = _ODD.sub(" ", key.value).strip()
        if key.kind == "state":
            words.append(NAMES[key.state])
        elif key.kind == "number":
            words.append(f"{' '.join(sorted(key.labels))} {value}")
        else:
            words.append(f'"{value}"' if is_quoted and " " in value else value)
    return " ".join(words)


def _context(context: Mapping[str, Any] | None) -> str:
    """Return the values of a search context, whatever their names."""
    values = (str(value) for value in (context or {}).values() if isinstance(value, str | int))
    return " ".join(values)


def _words(column: Column) -> str:
    return _SPLIT.sub(" ", column.name).strip().lower()


def _wordings(columns: Sequence[Column]) -> list[str]:
    told = [_BY_TYPE.get(column.type, f"official {_words(column)}") for column in columns]
    return list(dict.fromkeys(told))


def _description(column: Column) -> str:
    return " ".join(column.description.split()[:8]) or _words(column)


def _query(*parts: str) -> str:
    """Join parts, each word once; a name in quotation marks stays whole."""
    words = re.findall(r'"[^"]*"|\S+', " ".join(part for part in parts if part))
    once = {word.casefold(): word for word in reversed(words)}
    kept = [word for word in dict.fromkeys(words) if once[word.casefold()] == word]
    return " ".join(kept[:MOST_WORDS])
