"""How searches were answered without a search, counted in this process and written in batches.

A hit must not cost a write: counts wait in memory until there are many, or for half a minute.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from ..database import Database

Kind = Literal["fresh", "stale", "coalesced", "negative"]
KINDS: tuple[Kind, ...] = ("fresh", "stale", "coalesced", "negative")

BATCH = 500
"""Keys of one batch; so many that have hits are written without being asked to."""
LONGEST_WAIT_S = 30.0


class Counted(NamedTuple):
    """What hits are counted by.

    Attributes:
        cost_usd: what the answer cost when it was searched for, so what a hit saves.
    """

    cache_key: str
    project: str
    query_class: str
    cost_usd: Decimal | None


@dataclass(slots=True)
class _Pending:
    """What the database does not know of yet."""

    counts: dict[Counted, dict[Kind, int]] = field(default_factory=dict[Counted, dict[Kind, int]])
    since: float = 0.0
    is_due: bool = False
    unsure: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Batches that were sent and not acknowledged: sent again as they are, they count once."""


_lock = threading.Lock()
_pending: defaultdict[str, _Pending] = defaultdict(_Pending)
"""By database: shared by all clients of the process."""


def count(db: Database, of: Counted, kind: Kind) -> bool:
    """Count one answer; tell whether it is time to `flush`, once until somebody does."""
    now = time.monotonic()
    with _lock:
        pending = _pending[db.identity]
        if not pending.counts:
            pending.since = now
        counts = pending.counts.get(of)
        if counts is None:
            counts = pending.counts[of] = dict.fromkeys(KINDS, 0)
        counts[kind] += 1
        due = len(pending.counts) >= BATCH or now - pending.since >= LONGEST_WAIT_S
        is_first_to_see = due and not pending.is_due
        pending.is_due = due
        return is_first_to_see


async def flush(db: Database) -> None:
    """Write what was counted; what can't be written waits for the next time.

    Raises:
        DatabaseError: it can't be written now.
    """
    with _lock:
        taken = _pending.pop(db.identity, None)
    if taken is None:
        return
    rows = [_row(of, counts) for of, counts in taken.counts.items()]
    batches = [
        *taken.unsure,
        *(
            {"batch_id": str(uuid4()), "counts": rows[start : start + BATCH]}
            for start in range(0, len(rows), BATCH)
        ),
    ]
    try:
        while batches:
            await db.call("llm_search_count", batches[0])
            batches.pop(0)
    except BaseException:
        with _lock:
            _pending[db.identity].unsure.extend(batches)
        raise


def _row(of: Counted, counts: Mapping[Kind, int]) -> dict[str, Any]:
    return {
        "cache_key": of.cache_key,
        "project": of.project,
        "class": of.query_class,
        "cost_usd": of.cost_usd,
        **counts,
    }
