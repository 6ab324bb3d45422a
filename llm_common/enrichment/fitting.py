"""What of rows and pages fits into one call to a model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, TypeVar

from .columns import label_words
from .models import Column
from .wording import texts_of

T = TypeVar("T")

BYTES_PER_TOKEN = 3
"""On the safe side: English prose has about four bytes of UTF-8 to a token."""
BESIDE = 2
"""Lines that go with a telling one, on both sides."""
MONEY = Decimal("0.000000000001")
"""The ledger's smallest amount."""
_FIRST_LINES = 3
_LEFT_OUT = "[…]"
_FACT = re.compile(r"[^\s@]@[^\s@]+\.\w|(?:\d[\s().+/-]{0,3}){7}")


def batches_by_tokens(
    items: Iterable[tuple[T, int]], max_tokens: int, max_rows: int
) -> list[list[T]]:
    """Put items with their tokens into batches, in order; one that is too large is alone."""
    batches: list[list[T]] = []
    used = 0
    for item, tokens in items:
        if not batches or len(batches[-1]) >= max_rows or used + tokens > max_tokens:
            batches.append([])
            used = 0
        batches[-1].append(item)
        used += tokens
    return batches


def shares(cost: Decimal | None, weights: Sequence[int]) -> list[Decimal | None]:
    """Divide a cost by weights; the parts add up to it exactly. None where it is unknown.

    Without any weight, the parts are equal.
    """
    if cost is None:
        return [None] * len(weights)
    if not weights:
        return []
    counted = list(weights) if sum(weights) > 0 else [1] * len(weights)
    with localcontext() as context:
        context.prec = 60
        parts = [(cost * weight / sum(counted)).quantize(MONEY) for weight in counted]
        parts[counted.index(max(counted))] += cost - sum(parts, Decimal(0))
    return list(parts)


def tokens_of(text: str) -> int:
    """Return about how many tokens a text has, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def shown_text(page: Mapping[str, Any]) -> str:
    """Return a page's prose, and the lines of its full text with facts that pruning left out."""
    prose, full = str(page.get("text") or ""), str(page.get("full_text") or "")
    said = set(map(_bare, prose.split("\n")))
    whole = _bare(prose)
    lines = full.split("\n")
    lost = {
        number
        for number, line in enumerate(lines)
        if _FACT.search(line) and _bare(line) not in said and _bare(line) not in whole
    }
    if not lost:
        return prose or full
    kept = _with_neighbours(lost, len(lines), 1)
    return f"{prose}\n\n{_joined(lines, kept)}" if prose else full


def fitted(text: str, room: int, names: Sequence[str], columns: Sequence[Column]) -> str:
    """Cut a text to so many bytes: its beginning and the lines around names and columns stay.

    Args:
        names: key values of the rows that the page is for.
    """
    if len(text.encode()) <= room:
        return text
    lines = text.split("\n")
    scores = _scores(lines, names, columns)
    order = sorted(range(len(lines)), key=lambda number: (-scores[number], number))
    kept: set[int] = set()
    used = 0
    for number in order:
        near = {n for n in _with_neighbours({number}, len(lines), BESIDE) if n not in kept}
        size = sum(len(lines[n].encode()) + 1 + len(_LEFT_OUT.encode()) for n in near)
        if used + size <= room:
            kept |= near
            used += size
    if not kept:
        return lines[order[0]].encode()[: max(0, room)].decode("utf-8", "ignore")
    return _joined(lines, kept)


def page_rooms(sizes: Sequence[int], room: int) -> list[int]:
    """Share a room out: what small pages leave, large ones get."""
    rooms = [0] * len(sizes)
    waiting = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for position, i in enumerate(waiting):
        rooms[i] = min(sizes[i], max(0, room) // (len(waiting) - position))
        room -= rooms[i]
    return rooms


def _scores(lines: Sequence[str], names: Sequence[str], columns: Sequence[Column]) -> list[float]:
    wanted = [set(texts_of(name)) for name in names if name]
    labels = {word for column in columns for word in label_words(column)}
    is_contact = any(column.type in ("phone", "email", "url") for column in columns)
    scores: list[float] = []
    for number, line in enumerate(lines):
        words = set(texts_of(line))
        score = max((3 * len(name & words) / len(name) for name in wanted if name), default=0.0)
        score += 1.0 * bool(labels & words) + 1.0 * bool(is_contact and _FACT.search(line))
        scores.append(score + 2.0 * (number < _FIRST_LINES))
    return scores


def _with_neighbours(numbers: set[int], count: int, beside: int) -> set[int]:
    near = range(-beside, beside + 1)
    return {number + step for number in numbers for step in near if 0 <= number + step < count}


def _joined(lines: Sequence[str], kept: set[int]) -> str:
    """Join the lines that are kept; a mark says where some are left out."""
    written: list[str] = []
    before = -1
    for number in sorted(kept):
        if number != before + 1:
            written.append(_LEFT_OUT)
        written.append(lines[number])
        before = number
    return "\n".join(written)


def _bare(text: str) -> str:
    return "".join(texts_of(text))
