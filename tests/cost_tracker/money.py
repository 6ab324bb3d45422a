"""Ledger rows and requests, and callers of the money functions with connections of their own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from tests import servers

CENT = 10_000_000
"""A cent in nano-dollars."""


class Callers:
    """Calls functions, each call on a connection that nobody else uses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[psycopg.AsyncConnection[Any]] = []

    async def __call__(self, function: str, **payload: Any) -> Any:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            query = SQL("SELECT {}(%s)").format(Identifier(function))
            row = await (await connection.execute(query, [Jsonb(payload)])).fetchone()
        finally:
            self._idle.append(connection)
        return row[0]  # type: ignore[index]

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True)

    async def close(self) -> None:
        for connection in self._idle:
            await connection.close()


def row(operation: str = "", cost: str | None = "0.01", **changes: Any) -> dict[str, Any]:
    """A final ledger row."""
    return {
        "operation_id": operation or str(uuid4()),
        "attempt_no": 1,
        "kind": "first",
        "status": "ok",
        "model": "m",
        "requested_model": "m",
        "project": "p",
        "cost_usd": cost,
        "cost_source": "prices",
        **changes,
    }


def estimate(operation: str, cost: str = "0.05") -> dict[str, Any]:
    return row(operation, cost, status="estimated", cost_source="estimated")


def day_limit(limit: str = "1", scope: str = "project", scope_id: str = "p") -> dict[str, str]:
    return {"scope": scope, "scope_id": scope_id, "window": "day", "limit_usd": limit}


def request(
    operation: str = "", *limits: dict[str, str], cents: int = 1, **changes: Any
) -> dict[str, Any]:
    """A request for a hold."""
    held = row(operation, str(Decimal(cents) / 100), status="estimated", cost_source="estimated")
    return {
        "hold_id": str(uuid4()),
        "project": "p",
        "bound_nano": cents * CENT,
        "ttl_s": 60,
        "limits": list(limits) or [day_limit()],
        "row": held,
        **changes,
    }


async def reserve(call: Callers, wanted: dict[str, Any]) -> dict[str, Any]:
    return (await call("llm_reserve", requests=[wanted]))["results"][0]


def counters(url: str) -> dict[tuple[str, str, str], tuple[Decimal, int]]:
    rows = servers.fetch(
        url, "SELECT scope, scope_id, window_kind, spent_usd, held_nano FROM llm_budget_counters"
    )
    return {(scope, i, window): (spent, held) for scope, i, window, spent, held in rows}


def ledger_sum(url: str, where: str = "true") -> Decimal:
    query = f"SELECT coalesce(sum(cost_usd), 0) FROM cost_tracking WHERE {where}"
    ((total,),) = servers.fetch(url, query)
    return total
