"""The host's own table of bills, over a Postgres URL or a Supabase client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Protocol

import psycopg
from psycopg.rows import class_row
from supabase import Client, create_client

from .models import Bill

TABLE = """
    CREATE TABLE IF NOT EXISTS bills (
        id text PRIMARY KEY,
        jurisdiction text NOT NULL,
        title text NOT NULL,
        text text NOT NULL
    )
"""


class Bills(Protocol):
    """Where bills come from; `db` is what llm_common takes for the same database."""

    db: Any

    async def get(self, bill_id: str) -> Bill | None:
        """Return a bill, or None."""
        ...


class PostgresBills:
    """Bills over a direct connection."""

    def __init__(self, url: str) -> None:
        self.db = url

    async def get(self, bill_id: str) -> Bill | None:
        """Return a bill, or None."""
        async with await psycopg.AsyncConnection.connect(
            self.db, row_factory=class_row(Bill)
        ) as connection:
            found = await connection.execute(
                "SELECT id, jurisdiction, title, text FROM bills WHERE id = %s", (bill_id,)
            )
            return await found.fetchone()


class SupabaseBills:
    """Bills over Supabase's API."""

    def __init__(self, client: Client) -> None:
        self.db = client

    async def get(self, bill_id: str) -> Bill | None:
        """Return a bill, or None."""
        query = self.db.table("bills").select("id,jurisdiction,title,text").eq("id", bill_id)
        found = (await asyncio.to_thread(query.execute)).data
        return Bill.model_validate(found[0]) if found else None


def bills_of_environment() -> Bills:
    """Return the bills in `DATABASE_URL`, else in `SUPABASE_URL` with a service key.

    Raises RuntimeError when neither is set.
    """
    if url := os.getenv("DATABASE_URL"):
        return PostgresBills(url)
    if (url := os.getenv("SUPABASE_URL")) and (key := os.getenv("SUPABASE_SERVICE_ROLE_KEY")):
        return SupabaseBills(create_client(url, key))
    raise RuntimeError("set DATABASE_URL, or SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY")


def seed(url: str, bills: Iterable[Bill]) -> None:
    """Make the table and put bills into it; those that are there already stay as they are."""
    rows = [bill.model_dump() for bill in bills]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
        cursor.executemany(
            "INSERT INTO bills VALUES (%(id)s, %(jurisdiction)s, %(title)s, %(text)s)"
            " ON CONFLICT DO NOTHING",
            rows,
        )
